"""Every preset: where it starts, what it steps on, that it learns."""

import functools

import jax
import numpy as np
import pytest
from small import fields_of, numbers_data
from test_gradients import single
from test_invariances import QUICKLY, draw_episode
from test_meta_gradient import draw_meta

from htmaml_jax import systems
from htmaml_jax.data import find
from htmaml_jax.embed.set_encoder import SetEncoder
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
        ("hypermaml", False, False),
    ],
)
def test_only_what_the_row_names_steps(system, body, head):
    """What the inner loop adds to the start that the transform made."""
    # A sharper head of prototypes is too sure of its class to step at all.
    more = {"hyper__sharpness": 0.1} if system == "boil" else {}
    _, (adapted, _), _ = outcome(system, **more)
    _, (start, _), _ = outcome(system, inner__steps=0, **more)
    for part, steps in (("body", body), ("head", head)):
        pairs = zip(
            jax.tree.leaves(adapted.params[part]),
            jax.tree.leaves(start.params[part]),
            strict=True,
        )
        moved = np.max([np.max(np.abs(a - b)) for a, b in pairs])
        # Two compiled programs may round differently.
        assert moved > 1e-4 if steps else moved < 1e-9, part


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
    fields = fields_of(system)
    fields.inner.steps = 0
    learner = systems.build(fields, WAY)
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


def test_windows_of_a_clip_are_embedded_as_the_clip():
    """Each bears a part of its weight; alike, they say what one says."""
    keys = jax.random.split(jax.random.key(0), 2)
    inputs = jax.random.normal(keys[0], (6, 12))
    targets = np.array([0, 0, 1, 1, 2, 2], np.int32)
    whole = Batch(inputs, targets, np.ones(6, np.float32))
    halves = jax.tree.map(lambda x: np.repeat(x, 2, axis=0), whole)
    halves = halves._replace(mask=halves.mask / 2)
    encoder = SetEncoder(8)
    params = encoder.init(keys[1], whole, 3, inputs)
    one = encoder.apply(params, whole, 3, inputs)
    two = encoder.apply(params, halves, 3, halves.inputs)
    np.testing.assert_allclose(two.summary, one.summary, atol=1e-5)
    np.testing.assert_allclose(two.tokens, one.tokens, atol=1e-5)
