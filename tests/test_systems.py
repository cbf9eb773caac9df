"""Every preset: where it starts, what it steps on, that it learns."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_gradients import single
from test_invariances import QUICKLY, draw_episode
from test_meta_gradient import draw_meta

from htmaml_jax import config, limits, systems
from htmaml_jax.data import find
from htmaml_jax.episode import Batch
from htmaml_jax.errors import UserError
from htmaml_jax.inner import sgd
from htmaml_jax.outer import gradients, losses
from htmaml_jax.run import mesh as meshes
from htmaml_jax.run import step

WAY = 3
ON_CLASSES = sorted(set(systems.PRESETS) - {"finetune"})
ON_NUMBERS = sorted(set(systems.PRESETS) - {"protonet", "proto-maml"})
# Compiling is what takes the time: the rest learn among the slow tests.
QUICK = ("maml", "htmaml", "reptile", "mamlpp", "mmaml", "hsml", "tsa", "alfa")
# Systems that keep the start of the publication they are from, which is not
# MAML's.
OWN_START = ("l2f", "hsml")


def fields_of(system, numbers=False, **more):
    fields = config.default()
    if numbers:
        fields.data.update(
            name="regression6-0-5", way=1, shot=10, query=10, domains=6
        )
        fields.net.update(kind="mlp", output="numbers", width=16)
        fields.hyper.rules = (("body/.*", "affine"), ("head/.*", "add"))
    else:
        fields.net.update(width=8, blocks=1)
        fields.data.domains = 2
    fields.net.blocks = 1
    fields.embed.update(width=8, dim=8, layers=1)
    fields.hyper.update(dim=8, layers=1, dropout=0.0)
    fields.inner.steps = 2
    config.choose(fields, system)
    for path, value in more.items():
        config.put(fields, path.replace("__", "."), value)
    limits.check(fields)
    return fields


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
X, Y = np.array([1.0, 2.0], np.float32), np.float32(1.0)
START = {"head/kernel": jnp.array([0.5, -1.0])}
GRADIENT = (0.5 - 2.0 - 1.0) * X


def hand(rule="sgd", rates="layer", change=None, steps=1, **more):
    gradient = gradients.inner_gradient(
        lambda v, data: (v["head/kernel"] @ X - Y) ** 2 / 2
    )
    key = jax.random.key(0)
    learned = sgd.init(START, steps, 0.1, rule, rates, key)
    if change:
        learned = change(learned)
    end = sgd.descend(gradient, START, learned, (), **more)
    return np.asarray(end["head/kernel"])


def test_inner_rules_by_hand():
    start = np.array([0.5, -1.0])
    np.testing.assert_allclose(hand(), start - 0.1 * GRADIENT, rtol=1e-6)
    clipped = np.clip(GRADIENT, -3, 3)
    assert np.any(clipped != GRADIENT)
    np.testing.assert_allclose(hand(clip=3.0), start - 0.1 * clipped, rtol=1e-6)
    np.testing.assert_allclose(
        hand(fade=0.5), start - 0.05 * GRADIENT, rtol=1e-6
    )

    def each(learned):
        assert learned["alpha"]["head"]["kernel"].shape == (1, 2)
        return {"alpha": {"head": {"kernel": jnp.array([[0.1, 0.3]])}}}

    np.testing.assert_allclose(
        hand(rates="weight", change=each),
        start - np.array([0.1, 0.3]) * GRADIENT,
        rtol=1e-6,
    )


def test_curvature_and_alfa_by_hand():
    start = np.array([0.5, -1.0])
    for rule in ("curvature", "alfa"):
        decay = 5e-5 * start if rule == "alfa" else 0
        np.testing.assert_allclose(
            hand(rule), start - 0.1 * GRADIENT - decay, rtol=1e-6
        )
    turn = np.array([[0.0, 2.0], [1.0, 0.5]], np.float32)

    def turned(learned):
        learned["curvature"] = {"head": {"kernel": [jnp.asarray(turn)]}}
        return learned

    np.testing.assert_allclose(
        hand("curvature", change=turned),
        start - 0.1 * GRADIENT @ turn,
        rtol=1e-6,
    )

    def generated(learned):
        net = learned["alfa"]
        # Hidden units (1, 0), outputs 1 + (2, 3) for step size and decay.
        net["kernel0"], net["bias0"] = jnp.zeros((2, 2)), jnp.array([1.0, -1])
        net["kernel1"] = jnp.array([[2.0, 3.0], [7.0, 7.0]])
        return learned

    np.testing.assert_allclose(
        hand("alfa", change=generated),
        start - 3 * 0.1 * GRADIENT - 4 * 5e-5 * start,
        rtol=1e-6,
    )


def test_curvature_turns_every_side_of_a_kernel():
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(3, 2, 4, 5))
    sides = [rng.normal(size=(n, n)) for n in (6, 4, 5)]
    wanted = np.einsum("fci,gf,cd,io->gdo", kernel.reshape(6, 4, 5), *sides)
    found = sgd._curve(jnp.asarray(kernel), sides)
    np.testing.assert_allclose(found.reshape(6, 4, 5), wanted, rtol=1e-4)


def test_multi_step_weights_sum_to_one_and_move_to_the_last():
    for progress in (0.0, 0.05, 0.5):
        weights = np.array(losses.step_weights(4, progress))
        assert weights.sum() == pytest.approx(1)
    np.testing.assert_allclose(losses.step_weights(4, 0.0), [0.25] * 4)
    np.testing.assert_allclose(
        losses.step_weights(4, 1.0)[:3], [0.03 / 4] * 3, rtol=1e-5
    )


@functools.cache
def numbers_data():
    data = fields_of("maml", True).data
    table = find.load(data)
    shape = find.fixed_shape(data)
    return find.source(table, shape, "train", 0, "device"), data


@pytest.mark.parametrize(
    "system",
    [
        pytest.param(s, marks=() if s in QUICK else pytest.mark.slow)
        for s in ON_NUMBERS
    ],
)
def test_every_preset_learns_regression(system):
    """Trains 30 updates on the same 16 tasks; the loss must fall."""
    fields = fields_of(system, True, inner__size=0.01, outer__rate=3e-3)
    # Schedules of a longer training, from whose middle this is.
    fields.hyper.warmup = fields.hyper.blend = 0.0
    source, data = numbers_data()
    learner = systems.build(fields, 1)
    updates, tasks = 30, 16
    optimizer = step.make_optimizer(fields.outer, updates)
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


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"hyper.warmup": 0.1}, "need hyper.blend"),
        ({"inner.over": "heads/.*"}, "body/dense0/kernel"),
        ({"net.output": "classes"}, "net.output=numbers"),
        ({"net.kind": "conv"}, "net.kind=mlp"),
        ({"outer.augment.mix": 0.1}, "for clips"),
        ({"embed.dim": 30}, "multiple of 4"),
        ({"data.domains": 1, "embed.control": "domain"}, "one domain"),
        ({"hyper.head": "prototype"}, "needs classes"),
        ({"embed.reconstruct": 0.1, "embed.kind": "none"}, "embed.kind"),
        ({"inner.over": "("}, "no regular expression"),
        ({"hyper.rules": (("nothing", "affine"),)}, "match"),
        ({"outer.objective": "joint", "outer.gradient": "reptile"}, "reptile"),
    ],
)
def test_fillings_that_do_not_fit_are_refused(change, words):
    fields = fields_of("htmaml", True)
    for path, value in change.items():
        config.put(fields, path, value)

    def use():
        limits.check(fields)
        blank = find.blank_episode(fields.data)
        learner = systems.build(fields, 1)
        jax.eval_shape(learner.init, jax.random.key(0), blank)

    with pytest.raises(UserError, match=words):
        use()


def test_a_blend_goes_from_maml_to_the_generator():
    """Between warm-up and blend the transform grows and the steps fade."""
    fields = fields_of("hypermaml", True, hyper__warmup=0.2, hyper__blend=0.6)
    learner = systems.build(fields, 1)
    source, _ = numbers_data()
    tasks = source.episodes(source.shared, np.arange(1, dtype=np.int32))
    task = jax.tree.map(lambda x: x[0], tasks)
    rng = np.random.default_rng(0)
    meta = learner.init(jax.random.key(0), task)
    meta = jax.tree.map(
        lambda x: x + 0.1 * rng.normal(size=x.shape).astype(x.dtype), meta
    )
    base = np.asarray(meta["base"]["head"]["kernel"])
    moves = []
    for progress in (0.1, 0.4, 0.6):
        start = learner.start(meta, task.support, 0, progress=progress)
        moves.append(np.asarray(start.theta["head"]["kernel"]) - base)
        fade = 1 - np.clip((progress - 0.2) / 0.4, 0, 1)
        np.testing.assert_allclose(start.fade, fade, atol=1e-6)
    assert not np.any(moves[0]) and np.any(moves[2])
    np.testing.assert_allclose(moves[1], moves[2] / 2, rtol=1e-4, atol=1e-6)


def test_derivative_order_is_annealed():
    def end(second):
        gradient = gradients.annealed(jax.grad(lambda v, _: v**4), second)
        return jax.grad(lambda v: v - 0.1 * gradient(v, None))(2.0)

    assert end(jnp.bool_(False)) == 1
    np.testing.assert_allclose(end(jnp.bool_(True)), 1 - 0.1 * 48, rtol=1e-5)


@pytest.mark.parametrize("rates", ["layer", "fixed"])
def test_fixed_step_sizes_are_not_learned(rates):
    fields = fields_of("maml", True, inner__rates=rates)
    learner = systems.build(fields, 1)
    source, _ = numbers_data()
    tasks = source.episodes(source.shared, np.arange(1, dtype=np.int32))
    task = jax.tree.map(lambda x: x[0], tasks)
    key = jax.random.key(0)
    meta = learner.init(key, task)
    found = jax.grad(lambda m: learner.meta_loss(m, task, key)[0])(meta)
    moved = any(np.any(x) for x in jax.tree.leaves(found["inner"]))
    assert moved == (rates == "layer")
    assert any(np.any(x) for x in jax.tree.leaves(found["base"]))


def test_what_cannot_go_together_is_refused():
    fields = config.choose(config.default(), "finetune")
    with pytest.raises(UserError, match="net.output=numbers"):
        limits.check(fields)
    with pytest.raises(UserError, match="did you mean 'maml'"):
        config.choose(config.default(), "mamll")


@pytest.mark.parametrize("control", ["none", "constant", "shuffled", "domain"])
def test_controls_change_what_the_embedding_sees(control):
    fields = fields_of("htmaml", True, embed__control=control)
    fields.inner.steps = 0
    learner = systems.build(fields, 1)
    source, data = numbers_data()
    tasks = source.episodes(source.shared, np.arange(2, dtype=np.int32))
    one, two = (jax.tree.map(lambda x, i=i: x[i], tasks) for i in range(2))
    meta = learner.init(jax.random.key(0), one)
    rng = np.random.default_rng(0)
    meta = jax.tree.map(
        lambda x: x + 0.3 * rng.normal(size=x.shape).astype(x.dtype), meta
    )

    def kernel(support, domain=0, read=None):
        found = learner.adapt(meta, support, domain, read)
        return np.asarray(found.params["body"]["dense0"]["kernel"])

    same = np.array_equal(kernel(one.support), kernel(two.support))
    assert same == (control == "constant")
    by_domain = np.array_equal(kernel(one.support), kernel(one.support, 1))
    assert by_domain == (control != "domain")
    read = np.array_equal(
        kernel(one.support, read=two.support), kernel(two.support)
    )
    assert read


def test_shuffled_embeddings_are_of_the_next_task():
    fields = fields_of("htmaml", True, embed__control="shuffled")
    learner = systems.build(fields, 1)
    source, _ = numbers_data()
    indices = np.arange(3, dtype=np.int32)
    tasks = source.episodes(source.shared, indices)
    each = [jax.tree.map(lambda x, i=i: x[i], tasks) for i in range(3)]
    rng = np.random.default_rng(0)
    meta = learner.init(jax.random.key(0), each[0])
    meta = jax.tree.map(
        lambda x: x + 0.1 * rng.normal(size=x.shape).astype(x.dtype), meta
    )
    mesh = meshes.make_mesh(1, 1)
    for shuffled in (True, False):
        run = step.make_eval_step(learner, source.episodes, mesh, 1, shuffled)
        found = run(meta, source.shared, indices)
        wanted = [
            learner.score(meta, each[i], each[(i + shuffled) % 3].support)
            for i in range(3)
        ]
        np.testing.assert_allclose(found, wanted, rtol=1e-4)


def test_shuffled_embeddings_need_a_second_task():
    fields = fields_of("htmaml", True, embed__control="shuffled")
    learner = systems.build(fields, 1)
    source, _ = numbers_data()
    mesh = meshes.make_mesh(1, 1)
    run = step.make_eval_step(learner, source.episodes, mesh, 1, True)
    blank = find.blank_episode(fields.data)
    meta = learner.init(jax.random.key(0), blank)
    with pytest.raises(UserError, match="two tasks"):
        run(meta, source.shared, np.arange(1, dtype=np.int32))
    assert isinstance(blank.support, Batch)
