"""What a prediction may depend on, and what it must not.

All in float64 with a network that is small and heads of the generator that
are drawn away from zero: at their start they would hide every mistake.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_meta_gradient import draw_meta

from htmaml_jax import config, systems
from htmaml_jax.episode import Batch, Episode
from htmaml_jax.outer import losses

WAY, SHOT, QUERY, SIZE = 3, 2, 2, 8
CLOSE = dict(rtol=1e-9, atol=1e-9)
SYSTEMS = ("maml", "htmaml")
# Compiling is nearly all that these tests do.
QUICKLY = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
}
NORMS = ("group", "support")


@functools.cache
def learner_of(
    system, norm="group", way=WAY, transductive=False, steps=2, dropout=0.0
):
    fields = config.default()
    config.choose(fields, system)
    fields.net.update(width=8, blocks=1, norm=norm)
    fields.embed.update(width=8, dim=8)
    fields.hyper.update(dim=8, layers=1, dropout=dropout)
    # The first step moves a head whose columns are alike, the second all.
    fields.inner.steps = steps
    return systems.build(fields, way, transductive)


@functools.cache
def runner(*args, **kwargs):
    """Compiles (meta, episode) -> (adapted, logits, loss) of a learner."""
    learner = learner_of(*args, **kwargs)

    def run(meta, episode):
        adapted = learner.adapt(meta, episode.support)
        query = episode.query
        logits = learner.predict(adapted, query.inputs, query.mask)
        return adapted, logits, losses.cross_entropy(logits, query)

    return jax.jit(run, compiler_options=QUICKLY)


@functools.cache
def meta_of(system, norm="group"):
    """Draws all of meta, the generator's heads too, away from its start."""
    rng = np.random.default_rng(1)
    meta = draw_meta(learner_of("htmaml", norm), draw_episode(), rng)
    return meta if system == "htmaml" else {**meta, "embed": {}, "hyper": {}}


def draw_episode(seed=0):
    rng = np.random.default_rng(seed)

    def side(each):
        targets = np.repeat(np.arange(WAY, dtype=np.int32), each)
        inputs = rng.normal(size=(len(targets), SIZE, SIZE, 1))
        return Batch(inputs, targets, np.ones(len(targets), np.float32))

    return Episode(side(SHOT), side(QUERY), np.int32(0), np.int32(0))


def outcome(system, episode, norm="group", **kwargs):
    with jax.enable_x64(True):
        result = runner(system, norm, **kwargs)(meta_of(system, norm), episode)
    assert result[1].dtype == jnp.float64
    return jax.tree.map(np.asarray, result)


def assert_same(one, other):
    def close(x, y):
        np.testing.assert_allclose(x, y, **CLOSE)

    jax.tree.map(close, one, other)


def rename(batch, slots):
    return batch._replace(targets=np.asarray(slots, np.int32)[batch.targets])


def pad(batch, rng):
    """Puts two padding examples full of garbage among the real ones."""
    places = [0, 3]

    def put(x, garbage):
        return np.insert(x, places, garbage, axis=0)

    shape = (2, *batch.inputs.shape[1:])
    return Batch(
        put(batch.inputs, 50 * rng.normal(size=shape) + 20),
        put(batch.targets, [WAY - 1, 0]),
        put(batch.mask, 0),
    )


def test_htmaml_starts_as_maml():
    """The start is equal bit for bit, in float32 and under dropout.

    What follows from an equal start is equal but for rounding: two programs
    fuse the same sums differently.
    """
    single = jax.tree.map(
        lambda x: x.astype(np.float32) if x.dtype == np.float64 else x,
        draw_episode(),
    )
    start = learner_of("htmaml", steps=0, dropout=0.5)
    key = jax.random.key(0)

    def run(meta, episode, key):
        _, metrics = start.meta_loss(meta, episode, key)
        return start.adapt(meta, episode.support), metrics["moved"]

    # Apart, or one program draws weights twice that differ by rounding.
    meta = jax.jit(start.init, compiler_options=QUICKLY)(key, single)
    run = jax.jit(run, compiler_options=QUICKLY)
    adapted, moved = run(meta, single, key)
    bare = {**meta, "embed": {}, "hyper": {}}
    maml = learner_of("maml", steps=0).adapt(bare, single.support)
    jax.tree.map(np.testing.assert_array_equal, adapted, maml)
    # The squared distance in training, where dropout is on.
    assert moved == 0 and moved.dtype == jnp.float32
    meta["inner"] = meta_of("maml")["inner"]
    meta = jax.tree.map(lambda x: np.asarray(x, np.float64), meta)
    bare = {**meta, "embed": {}, "hyper": {}}
    with jax.enable_x64(True):
        ours = runner("htmaml", "group")(meta, draw_episode())
        theirs = runner("maml", "group")(bare, draw_episode())
    assert_same(ours, theirs)
    # The inner loop did something, else equality would say little.
    assert np.max(np.abs(ours[0].params["head"]["kernel"])) > 1e-3


@pytest.mark.parametrize("system", SYSTEMS)
def test_order_of_the_support_changes_nothing(system):
    episode = draw_episode()
    order = np.random.default_rng(2).permutation(WAY * SHOT)
    shuffled = jax.tree.map(lambda x: x[order], episode.support)
    assert np.any(shuffled.targets != episode.support.targets)
    assert_same(
        outcome(system, episode),
        outcome(system, episode._replace(support=shuffled)),
    )


@pytest.mark.parametrize("system", SYSTEMS)
def test_renaming_classes_permutes_columns(system):
    episode = draw_episode()
    slots = np.array([1, 2, 0])
    adapted, logits, loss = outcome(system, episode)
    renamed = outcome(
        system,
        episode._replace(
            support=rename(episode.support, slots),
            query=rename(episode.query, slots),
        ),
    )
    # What was column c is now column slots[c].
    head = jax.tree.map(lambda x: x[..., slots], renamed[0].params["head"])
    assert_same(adapted.params["head"], head)
    assert_same(adapted.params["body"], renamed[0].params["body"])
    assert_same(logits, renamed[1][:, slots])
    assert_same(loss, renamed[2])
    assert np.min(np.ptp(logits, axis=1)) > 1e-3


@pytest.mark.parametrize(
    "system,norm",
    [("maml", "group"), ("htmaml", "group"), ("htmaml", "support")],
)
def test_padding_changes_nothing(system, norm):
    episode = draw_episode()
    rng = np.random.default_rng(3)
    adapted, logits, loss = outcome(system, episode, norm)
    padded = episode._replace(
        support=pad(episode.support, rng), query=pad(episode.query, rng)
    )
    other = outcome(system, padded, norm)
    assert bool(jax.tree.leaves(adapted.stats)) == (norm == "support")
    assert_same(adapted, other[0])
    assert_same(logits, other[1][padded.query.mask > 0])
    assert_same(loss, other[2])


def change_others(episode):
    """Changes everything about the queries but the first one's input."""
    query = episode.query
    inputs = query.inputs.copy()
    inputs[1:] = 3 * np.random.default_rng(4).normal(size=inputs[1:].shape)
    targets = (query.targets + 1) % WAY
    return episode._replace(
        query=query._replace(inputs=inputs, targets=targets)
    )


@pytest.mark.parametrize("norm", NORMS)
def test_other_queries_change_nothing(norm):
    episode = draw_episode()
    _, logits, _ = outcome("htmaml", episode, norm)
    _, other, _ = outcome("htmaml", change_others(episode), norm)
    assert_same(logits[0], other[0])
    assert np.all(np.abs(logits[1:] - other[1:]).max(axis=1) > 1e-6)


def test_other_queries_matter_when_transductive():
    """Shows that the test above can fail."""
    episode = draw_episode()
    adapted, inductive, _ = outcome("htmaml", episode, "support")
    learner = learner_of("htmaml", "support", transductive=True)
    with jax.enable_x64(True):
        meta = meta_of("htmaml", "support")
        shapes = jax.eval_shape(learner.adapt, meta, episode.support)
        # Parameters adapt alike; no statistics are kept.
        assert not jax.tree.leaves(shapes.stats)
        adapted = adapted._replace(stats={})
        predict = jax.jit(learner.predict, compiler_options=QUICKLY)
        one, other = (
            np.asarray(predict(adapted, x.query.inputs, x.query.mask))
            for x in (episode, change_others(episode))
        )
    assert np.max(np.abs(one[0] - other[0])) > 1e-3
    assert np.max(np.abs(one[0] - inductive[0])) > 1e-3


@pytest.mark.parametrize("norm", NORMS)
def test_a_batch_is_predicted_as_one_by_one(norm):
    episode = draw_episode()
    adapted, logits, _ = outcome("htmaml", episode, norm)
    with jax.enable_x64(True):
        predict = learner_of("htmaml", norm).predict
        predict = jax.jit(predict, compiler_options=QUICKLY)
        alone = [predict(adapted, x[None])[0] for x in episode.query.inputs]
    assert_same(logits, np.stack(alone))


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("slots", [(0, 1, 2), (4, 0, 3)])
def test_absent_slots_do_nothing(system, slots):
    """A 3-class task is the same to a learner of 3 slots and of 5."""
    episode = draw_episode()
    adapted, logits, loss = outcome(system, episode)
    wide = outcome(
        system,
        episode._replace(
            support=rename(episode.support, slots),
            query=rename(episode.query, slots),
        ),
        way=5,
    )
    absent = [s for s in range(5) if s not in slots]
    with jax.enable_x64(True):
        probability = np.asarray(jax.nn.softmax(wide[1]))
    assert np.all(probability[:, absent] == 0)
    assert not np.any(wide[0].classes[absent])
    assert_same(logits, wide[1][:, list(slots)])
    assert_same(adapted.params["body"], wide[0].params["body"])
    assert_same(loss, wide[2])
