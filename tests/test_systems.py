"""Every preset: where it starts, what it steps on, that it learns."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small import fields_of, numbers_data
from test_gradients import single
from test_invariances import QUICKLY, draw_episode
from test_meta_gradient import draw_meta

from htmaml_jax import systems
from htmaml_jax.data import draw, find, sources
from htmaml_jax.episode import Batch
from htmaml_jax.run import mesh as meshes
from htmaml_jax.run import step
from htmaml_jax.run.optimizer import make_optimizer

WAY = 3
# Those that need classes with names have tests in test_transfer.
ON_CLASSES = sorted(set(systems.PRESETS) - {"xmaml", "hatemaml"})
PROTOTYPES = {"protonet", "proto-maml", "prototype"}
ON_NUMBERS = sorted(set(ON_CLASSES) - PROTOTYPES)
# Compiling is what takes the time: the rest learn among the slow tests.
QUICK = ("maml", "htmaml", "reptile", "tsa")
# Systems that keep the start of the publication they are from, which is not
# MAML's.
OWN_START = ("l2f", "hsml")


@functools.cache
def outcome(system, **more):
    """Returns (adapted, logits) of an episode of classes, and its renaming."""
    learner = systems.build(fields_of(system, **more), WAY)
    episode = draw_episode()
    meta = draw_meta(learner, episode, np.random.default_rng(1))

    def run(meta, support, inputs):
        adapted = learner.adapt(meta, support)
        return adapted, learner.predict(adapted, inputs)

    with jax.enable_x64(True):
        run = jax.jit(run, compiler_options=QUICKLY)
        found = []
        for slots in (np.arange(3), np.array([1, 2, 0])):
            targets = slots[episode.support.targets].astype(np.int32)
            support = episode.support._replace(targets=targets)
            out = run(meta, support, episode.query.inputs)
            found.append(jax.tree.map(np.asarray, out))
    return meta, *found


@pytest.mark.parametrize("system", ON_CLASSES)
def test_renaming_classes_permutes_columns(system):
    _, (_, logits), (_, renamed) = outcome(system)
    np.testing.assert_allclose(logits, renamed[:, [1, 2, 0]], rtol=1e-8)
    assert np.min(np.ptp(logits, axis=1)) > 1e-4


@pytest.mark.parametrize(
    ("system", "body", "head"),
    [
        ("maml", True, True),
        ("anil", False, True),
        ("boil", True, False),
        ("tsa", True, True),
        ("tapt", True, True),
        ("cnaps", False, False),
        ("hypermaml", False, False),
    ],
)
def test_only_what_the_row_names_steps(system, body, head):
    """What the inner loop adds to the start that the transform made."""
    _, (adapted, _), _ = outcome(system)
    _, (start, _), _ = outcome(system, inner__steps=0)
    for part, steps in (("body", body), ("head", head)):
        pairs = zip(
            jax.tree.leaves(adapted.params[part]),
            jax.tree.leaves(start.params[part]),
            strict=True,
        )
        moved = any(np.any(a != b) for a, b in pairs)
        assert moved == steps, part


GENERATED = sorted(
    s for s in ON_CLASSES if systems.PRESETS[s].get("hyper.kind") == "generator"
)


@pytest.mark.parametrize("system", GENERATED)
def test_another_task_is_transformed_otherwise(system):
    """An embedding that says nothing would make this MAML."""
    learner = systems.build(fields_of(system, inner__steps=0), WAY)
    meta = draw_meta(learner, draw_episode(), np.random.default_rng(1))

    def run(seed):
        with jax.enable_x64(True):
            support = draw_episode(seed).support
            return learner.adapt(meta, support).params

    pairs = zip(jax.tree.leaves(run(0)), jax.tree.leaves(run(1)), strict=True)
    assert max(np.max(np.abs(a - b)) for a, b in pairs) > 1e-6


@pytest.mark.parametrize("system", sorted(set(ON_CLASSES) - set(OWN_START)))
def test_every_other_system_starts_as_maml(system):
    """At initialisation and without a step nothing is moved, to the bit."""
    learner = systems.build(fields_of(system, inner__steps=0), WAY)
    episode = single(draw_episode())

    def run(key):
        meta = learner.init(key, episode)
        if system == "multi-maml":
            meta["base"] = jax.tree.map(lambda x: x[0], meta["base"])
        return meta["base"], learner.init(key, episode)

    base, meta = jax.jit(run, compiler_options=QUICKLY)(jax.random.key(0))
    adapted = learner.adapt(meta, episode.support).params
    jax.tree.map(np.testing.assert_array_equal, base["body"], adapted["body"])
    assert np.any(base["body"]["conv0"]["kernel"])


def test_a_label_blind_embedding_makes_the_same_body_for_any_labels():
    def shuffled(system):
        learner = systems.build(
            fields_of(system, inner__steps=0, inner__through="weights"), WAY
        )
        episode = draw_episode()
        meta = draw_meta(learner, episode, np.random.default_rng(1))
        with jax.enable_x64(True):
            found = [
                learner.adapt(meta, episode.support._replace(targets=t))
                for t in (
                    episode.support.targets,
                    np.array([0, 1, 2, 0, 1, 2], np.int32),
                )
            ]
        a, b = (x.params["body"]["norm0"]["group"]["scale"] for x in found)
        return np.allclose(a, b, rtol=1e-12)

    assert shuffled("mmaml") and not shuffled("htmaml")


def test_htmaml_of_identity_families_is_maml():
    _, (adapted, logits), _ = outcome("htmaml", hyper__rules=())
    learner = systems.build(fields_of("maml"), WAY)
    episode = draw_episode()
    meta = draw_meta(
        systems.build(fields_of("htmaml", hyper__rules=()), WAY),
        episode,
        np.random.default_rng(1),
    )
    meta = {**meta, "hyper": {}, "embed": {}}
    with jax.enable_x64(True):
        theirs = jax.jit(learner.adapt, compiler_options=QUICKLY)(
            meta, episode.support
        )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12),
        adapted.params,
        jax.tree.map(np.asarray, theirs.params),
    )
    assert np.ptp(logits) > 1e-3


# loss = (w . x - y)^2 / 2 on one example: gradient (w . x - y) x.


@pytest.mark.parametrize(
    "system",
    [
        pytest.param(s, marks=() if s in QUICK else pytest.mark.slow)
        for s in ON_NUMBERS
    ],
)
def test_every_preset_learns_regression(system):
    """Trains 30 updates on the same 16 tasks; the loss must fall."""
    # Without learned step sizes first order goes astray at 0.01.
    size = 0.003 if system == "fomaml" else 0.01
    fields = fields_of(system, True, inner__size=size, outer__rate=3e-3)
    # Schedules of a longer training, from whose middle this is.
    fields.hyper.warmup = fields.hyper.blend = 0.0
    source, data = numbers_data()
    learner = systems.build(fields, 1)
    updates, tasks = 30, 16
    optimizer = make_optimizer(fields.outer, updates)
    mesh = meshes.make_mesh(tasks, 1)
    blank = find.blank_episode(data)
    key = jax.random.key(0)
    state = step.init_state(learner, optimizer, key, blank)
    update = step.make_train_step(
        learner, optimizer, source.episodes, mesh, tasks, updates
    )
    pieces = np.arange(tasks, dtype=np.int32)
    args = (key, source.shared, pieces)
    run = update.lower(state, *args).compile(compiler_options=QUICKLY)
    values = []
    for _ in range(updates):
        state, metrics = run(state, *args)
        values.append(float(metrics["loss"]))
    assert np.all(np.isfinite(values))
    assert np.mean(values[-3:]) < 0.95 * values[0], values[:: updates - 1]


def tasks_of(table, fields, count):
    """Draws 2-way tasks of a table; the fields are told how large it is."""
    fields.data.update(rows=8, columns=8)
    source = sources.device(table, draw.Shape(2, 2, 3, 2, 2), "train", 0)
    draws = jax.jit(source.episodes)
    return draws(source.shared, np.arange(count, dtype=np.int32))


def test_joint_training_tells_all_training_classes_apart(tiny_table):
    """Whatever slots they are in; compared with the labels of the table."""
    fields = fields_of("finetune")
    tasks = tasks_of(tiny_table, fields, 20)
    learner = systems.build(fields, 2, known=4)
    key = jax.random.key(0)
    meta = jax.jit(learner.init)(key, jax.tree.map(lambda x: x[0], tasks))
    assert meta["joint"]["kernel"].shape[1] == 4

    def mean_loss(meta):
        each = jax.vmap(lambda e: learner.meta_loss(meta, e, key))(tasks)
        return jax.tree.map(jnp.mean, each)

    optimizer = optax.adam(3e-3)
    state = optimizer.init(meta)
    slope = jax.jit(jax.value_and_grad(mean_loss, has_aux=True))
    (first, _), _ = slope(meta)
    np.testing.assert_allclose(first, np.log(4), rtol=1e-5)
    for _ in range(60):
        (loss, metrics), gradient = slope(meta)
        updates, state = optimizer.update(gradient, state)
        meta = optax.apply_updates(meta, updates)
    assert metrics["accuracy"] > 0.95
    table = tiny_table.labels < 4
    batch = Batch(tiny_table.inputs[table], None, np.ones(sum(table)))
    features = learner.features(meta["base"], batch)
    outputs = features @ meta["joint"]["kernel"] + meta["joint"]["bias"]
    right = np.argmax(outputs, axis=1) == tiny_table.labels[table]
    assert right.mean() > 0.9


@pytest.mark.parametrize(
    "system", [pytest.param("htmaml", marks=pytest.mark.slow), "multi-maml"]
)
def test_training_may_be_joint_before_it_is_meta(tiny_table, system):
    """Until then nothing but the network and the joint head has a slope."""
    fields = fields_of(
        system, outer__joint_until=0.5, outer__augment__blend=0.4
    )
    tasks = tasks_of(tiny_table, fields, 2)
    learner = systems.build(fields, 2, known=4)
    alone = systems.build(fields_of("finetune"), 2, known=4)
    key = jax.random.key(0)
    meta = learner.init(key, jax.tree.map(lambda x: x[0], tasks))
    head = meta["joint"]["kernel"]
    meta["joint"]["kernel"] = 0.1 * jax.random.normal(key, head.shape)

    def mean_loss(meta, progress, learner=learner):
        def one(task):
            return learner.meta_loss(meta, task, key, progress)

        return jax.tree.map(jnp.mean, jax.vmap(one)(tasks))

    slope = jax.jit(jax.value_and_grad(mean_loss, has_aux=True))
    (early, metrics), before = slope(meta, 0.49)
    assert early == metrics["loss"]
    if system == "htmaml":  # no class is blended with another one there
        wanted, _ = mean_loss(meta, 0.0, alone)
        np.testing.assert_allclose(early, wanted, rtol=1e-5)
    _, after = slope(meta, 0.5)

    def sizes(gradient):
        return {k: float(optax.tree.norm(x)) for k, x in gradient.items()}

    before, after = sizes(before), sizes(after)
    assert before["joint"] > 0 and after["joint"] == 0
    assert before["inner"] == before["hyper"] == 0 < after["inner"]
    assert before["base"] > 0 and after["base"] > 0


@pytest.mark.parametrize("sharpness", [0.0, 5.0])
def test_a_head_of_prototypes_is_made_of_transformed_features(sharpness):
    """Queries are judged by the transformed body; so must the means be."""
    fields = fields_of(
        "htmaml",
        inner__steps=0,
        hyper__head="prototype",
        hyper__sharpness=sharpness,
        hyper__rules=(("body/.*", "affine"),),
    )
    learner = systems.build(fields, WAY)
    episode = draw_episode()
    meta = draw_meta(learner, episode, np.random.default_rng(1))
    support = episode.support
    with jax.enable_x64(True):
        adapted = learner.adapt(meta, support).params
        inside = learner.features({"body": adapted["body"]}, support)
        outside = learner.features(meta["base"], support)
        logits = learner.predict(
            learner.adapt(meta, support), support.inputs, support.mask
        )
    inside, outside, logits = map(np.asarray, (inside, outside, logits))
    members = np.eye(WAY)[support.targets]
    means = members.T @ inside / members.sum(0)[:, None]
    assert np.max(np.abs(inside - outside)) > 1e-3
    apart = -np.sum((inside[:, None] - means) ** 2, axis=-1)
    apart *= sharpness / inside.shape[-1] if sharpness else 1
    # Distances but for what is the same for all classes.
    centred = (x - x.mean(1, keepdims=True) for x in (logits, apart))
    np.testing.assert_allclose(*centred, rtol=1e-4, atol=1e-4)
