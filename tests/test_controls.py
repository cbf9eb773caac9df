"""Controls and ablations; fillings that do not go together."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import fields_of, numbers_data
from test_invariances import draw_episode
from test_meta_gradient import draw_meta

from htmaml_jax import config, limits, systems
from htmaml_jax.data import find
from htmaml_jax.episode import Batch
from htmaml_jax.errors import UserError
from htmaml_jax.run import mesh as meshes
from htmaml_jax.run import step


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"hyper.warmup": 0.1}, "need hyper.blend"),
        ({"inner.rates": "task", "inner.steps": 0}, "inner.rates=task"),
        (
            {"inner.rates": "task", "hyper.kind": "identity"},
            "task needs .*hyper.kind=generator",
        ),
        (
            {"inner.rates": "task", "embed.kind": "gradient"},
            "task needs .*embed.kind=set",
        ),
        ({"inner.rates": "task", "inner.rule": "alfa"}, "rule=alfa"),
        ({"inner.rates": "task", "hyper.blend": 0.5}, "hyper.blend"),
        (
            {"inner.rates": "task", "outer.gradient": "reptile"},
            "gradient=reptile",
        ),
        ({"inner.over": "heads/.*"}, "body/dense0/kernel"),
        ({"net.output": "classes"}, "net.output=numbers"),
        ({"net.kind": "conv"}, "net.kind=mlp"),
        ({"outer.augment.mix": 0.1}, "not for functions"),
        ({"embed.dim": 30}, "multiple of 4"),
        ({"data.domains": 1, "embed.control": "domain"}, "one domain"),
        ({"hyper.head": "prototype"}, "needs classes"),
        ({"hyper.sharpness": 3.0}, "set hyper.head=prototype"),
        ({"embed.reconstruct": 0.1, "embed.kind": "none"}, "embed.kind"),
        ({"inner.over": "("}, "no regular expression"),
        ({"hyper.rules": (("nothing", "affine"),)}, "match"),
        ({"outer.objective": "joint", "outer.gradient": "reptile"}, "reptile"),
        ({"outer.joint_until": 0.5}, "for classes that change"),
        ({"outer.gradient": "reptile", "inner.steps": 0}, "inner.steps to 1"),
        ({"net.precision": "bfloat16"}, "are for net.kind=conv and unet"),
        ({"net.norm": "support"}, "are for net.kind=conv and unet"),
        ({"joint.weigh": "gradient"}, "for a config of several domains"),
        ({"joint.only": "a+b"}, "for a config of several domains"),
        ({"eval.strength": 1.5}, r"in 0 \.\. 1"),
        ({"eval.strength": 0.5, "inner.through": "transform"}, "strength"),
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
    meta = jax.jit(learner.init)(jax.random.key(0), task)
    meta = jax.tree.map(
        lambda x: x + 0.1 * rng.normal(size=x.shape).astype(x.dtype), meta
    )
    base = np.asarray(meta["base"]["head"]["kernel"])

    @jax.jit
    def at(progress):
        start = learner.start(meta, task.support, 0, progress=progress)
        return start.theta["head"]["kernel"], start.fade

    moves = []
    for progress in (0.1, 0.4, 0.6):
        kernel, faded = at(progress)
        moves.append(np.asarray(kernel) - base)
        fade = 1 - np.clip((progress - 0.2) / 0.4, 0, 1)
        np.testing.assert_allclose(faded, fade, atol=1e-6)
    assert not np.any(moves[0]) and np.any(moves[2])
    np.testing.assert_allclose(moves[1], moves[2] / 2, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "more", [{}, {"embed__clusters": 3}, {"embed__control": "domain"}]
)
def test_step_sizes_are_those_of_a_task(more):
    """Half of what the task says is half of its logarithm; 0 is MAML's."""
    fields = fields_of("htmaml", True, inner__rates="task", **more)
    learner = systems.build(fields, 1)
    source, _ = numbers_data()
    tasks = source.episodes(source.shared, np.arange(2, dtype=np.int32))
    one, other = (jax.tree.map(lambda x, i=i: x[i], tasks) for i in (0, 1))
    rng = np.random.default_rng(0)
    meta = jax.jit(learner.init)(jax.random.key(0), one)
    meta = jax.tree.map(
        lambda x: x + 0.3 * rng.normal(size=x.shape).astype(x.dtype), meta
    )

    @functools.partial(jax.jit, static_argnums=1)
    def factors(task, strength=1.0):
        start = learner.start(meta, task.support, 0, strength=strength)
        found, plain = start.learned["alpha"], meta["inner"]["alpha"]
        return jax.tree.map(lambda x, y: jnp.log(x / y), found, plain)

    mine, theirs = (
        jax.tree.leaves(factors(one)),
        jax.tree.leaves(factors(other)),
    )
    apart = [np.abs(x - y).max() for x, y in zip(mine, theirs, strict=True)]
    assert min(apart) > 1e-4
    for x, half in zip(mine, jax.tree.leaves(factors(one, 0.5)), strict=True):
        np.testing.assert_allclose(half, x / 2, rtol=1e-3, atol=1e-5)
    for none in jax.tree.leaves(factors(one, 0.0)):
        np.testing.assert_allclose(none, 0, atol=1e-6)

    def loss(meta):
        return learner.meta_loss(meta, one, jax.random.key(0))[0]

    found = jax.jit(jax.grad(loss))(meta)
    for net in found["inner"]["task"].values():
        assert np.any(net)


def test_evaluation_may_use_a_part_of_what_is_generated():
    episode = draw_episode()
    rules = (("body/.*", "affine"), ("head/kernel", "rows"))
    more = {"inner__steps": 0, "hyper__rules": rules}
    more["hyper__head"] = "prototype"
    whole = systems.build(fields_of("htmaml", **more), 3)
    meta = draw_meta(whole, episode, np.random.default_rng(1))

    def use(strength):
        fields = fields_of("htmaml", eval__strength=strength, **more)
        learner = systems.build(fields, 3)
        with jax.enable_x64(True):
            params = learner.adapt(meta, episode.support).params
            loss, _ = learner.meta_loss(meta, episode, jax.random.key(0))
            head = learner.prototypes(meta["base"], episode.support)
        plain = {"body": meta["base"]["body"], "head": head}
        return jax.tree.map(np.asarray, (params, loss, plain))

    (none, loss, plain), (half, same, _), (all_of_it, trained, _) = (
        use(strength) for strength in (0.0, 0.5, 1.0)
    )
    chex.assert_trees_all_close(none, plain, rtol=1e-9)
    middle = jax.tree.map(lambda a, b: (a + b) / 2, none, all_of_it)
    chex.assert_trees_all_close(half["body"], middle["body"], rtol=1e-9)
    for part in ("body", "head"):
        pair = (jax.tree.leaves(x[part]) for x in (none, all_of_it))
        pair = zip(*pair, strict=True)
        assert max(np.max(np.abs(a - b)) for a, b in pair) > 1e-3
    # Training always uses all of it.
    assert loss == same == trained


@pytest.mark.parametrize("rates", ["layer", "fixed"])
def test_fixed_step_sizes_are_not_learned(rates):
    fields = fields_of("maml", True, inner__rates=rates)
    learner = systems.build(fields, 1)
    source, _ = numbers_data()
    tasks = source.episodes(source.shared, np.arange(1, dtype=np.int32))
    task = jax.tree.map(lambda x: x[0], tasks)
    key = jax.random.key(0)
    meta = jax.jit(learner.init)(key, task)
    loss = jax.grad(lambda m: learner.meta_loss(m, task, key)[0])
    found = jax.jit(loss)(meta)
    moved = any(np.any(x) for x in jax.tree.leaves(found["inner"]))
    assert moved == (rates == "layer")
    assert any(np.any(x) for x in jax.tree.leaves(found["base"]))


def test_what_cannot_go_together_is_refused():
    fields = config.choose(config.default(), "htmaml")
    fields.outer.objective = "joint"
    with pytest.raises(UserError, match="hyper.kind=identity"):
        limits.check(fields)
    with pytest.raises(UserError, match="did you mean 'maml'"):
        config.choose(config.default(), "mamll")


@pytest.mark.parametrize(
    "control",
    [
        pytest.param("none", marks=pytest.mark.slow),
        "constant",
        "shuffled",
        "domain",
    ],
)
def test_controls_change_what_the_embedding_sees(control):
    fields = fields_of("htmaml", True, embed__control=control)
    fields.inner.steps = 0
    learner = systems.build(fields, 1)
    source, data = numbers_data()
    tasks = source.episodes(source.shared, np.arange(2, dtype=np.int32))
    one, two = (jax.tree.map(lambda x, i=i: x[i], tasks) for i in range(2))
    meta = jax.jit(learner.init)(jax.random.key(0), one)
    rng = np.random.default_rng(0)
    meta = jax.tree.map(
        lambda x: x + 0.3 * rng.normal(size=x.shape).astype(x.dtype), meta
    )

    adapt = jax.jit(learner.adapt)

    def kernel(support, domain=0, read=None):
        found = adapt(meta, support, domain, read)
        return np.asarray(found.params["body"]["dense0"]["kernel"])

    same = np.array_equal(kernel(one.support), kernel(two.support))
    assert same == (control == "constant")
    by_domain = np.array_equal(kernel(one.support), kernel(one.support, 1))
    assert by_domain == (control != "domain")
    read = np.array_equal(
        kernel(one.support, read=two.support), kernel(two.support)
    )
    assert read


@pytest.mark.slow
def test_shuffled_embeddings_are_of_the_next_task():
    fields = fields_of("htmaml", True, embed__control="shuffled")
    learner = systems.build(fields, 1)
    source, _ = numbers_data()
    indices = np.arange(3, dtype=np.int32)
    tasks = source.episodes(source.shared, indices)
    each = [jax.tree.map(lambda x, i=i: x[i], tasks) for i in range(3)]
    rng = np.random.default_rng(0)
    meta = jax.jit(learner.init)(jax.random.key(0), each[0])
    score = jax.jit(learner.score)
    meta = jax.tree.map(
        lambda x: x + 0.1 * rng.normal(size=x.shape).astype(x.dtype), meta
    )
    mesh = meshes.make_mesh(1, 1)
    for shuffled in (True, False):
        run = step.make_eval_step(learner, source.episodes, mesh, 1, shuffled)
        found = run(meta, source.shared, indices)
        wanted = [
            score(meta, each[i], each[(i + shuffled) % 3].support)
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
    meta = jax.jit(learner.init)(jax.random.key(0), blank)
    with pytest.raises(UserError, match="two tasks"):
        run(meta, source.shared, np.arange(1, dtype=np.int32))
    assert isinstance(blank.support, Batch)
