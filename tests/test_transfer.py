"""Between languages: meta-gradients, macro-F1, and judging without labels."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from htmaml_jax import config, limits, systems, transfer
from htmaml_jax.data import find
from htmaml_jax.episode import Batch, Episode
from htmaml_jax.outer import losses

ROUNDS = [("eval.support", "pseudo"), ("eval.confidence", "0.5")]


def fields_of(system, **more):
    """Returns a config of vectors of four numbers, so that nets are tiny."""
    fields = config.default()
    fields.data.update(name="hate", encoder="x", size=4, way=2, shot=3, query=2)
    fields.eval.way = 2
    fields.net.update(kind="vector", output="labels", width=5, blocks=1)
    fields.embed.update(dim=8, layers=1)
    fields.hyper.update(dim=8, layers=1, dropout=0.0)
    config.choose(fields, system)
    fields.hyper.rules = (("body/.*norm.*", "affine"), ("head/.*", "rows"))
    for path, value in more.items():
        config.put(fields, path.replace("__", "."), value)
    limits.check(fields)
    return fields


def made(fields, queries="own"):
    """Returns a learner, its meta moved off the start, and an episode."""
    learner = systems.build(fields, 2, known=4)
    blank = find.blank_episode(fields.data)
    meta = jax.jit(learner.init)(jax.random.key(0), blank)
    rng = np.random.default_rng(1)

    def normal(*shape):
        return rng.normal(size=shape).astype(np.float32)

    meta = jax.tree.map(lambda x: x + 0.1 * normal(*x.shape), meta)

    def side(shot):
        inputs = jnp.asarray(normal(2 * shot, 4))
        targets = jnp.repeat(jnp.arange(2), shot)
        return Batch(inputs, targets, jnp.ones(2 * shot))

    second = side(2) if queries == "both" else None
    episode = Episode(side(3), side(2), 0, 0, jnp.arange(2), second)
    return learner, meta, episode


def loss_of(learner, params, batch):
    """Cross-entropy by the formula; no helper of the package."""
    logits = learner.network().apply({"params": params}, batch.inputs)
    odds = logits - jax.scipy.special.logsumexp(logits, axis=1, keepdims=True)
    return -jnp.mean(odds[jnp.arange(len(batch.targets)), batch.targets])


def stepped(learner, base, batch, alpha, steps, first):
    """Takes plain gradient steps, one array of step sizes per leaf."""
    params = base
    for k in range(steps):
        grads = jax.grad(lambda p: loss_of(learner, p, batch))(params)
        if first:
            grads = jax.lax.stop_gradient(grads)
        params = jax.tree.map(
            lambda x, a, g, k=k: x - a[k] * g, params, alpha, grads
        )
    return params


@pytest.mark.parametrize("system", ["xmaml", "hatemaml"])
def test_meta_gradients_by_hand(system):
    """A step on one language, judged in another; five, judged in both."""
    fields = fields_of(system)
    learner, meta, episode = made(fields, fields.outer.domain_query)
    steps, first = (1, False) if system == "xmaml" else (5, True)

    def by_hand(base):
        alpha = meta["inner"]["alpha"]
        support = episode.support
        params = stepped(learner, base, support, alpha, steps, first)
        each = [loss_of(learner, params, episode.query)]
        if system == "hatemaml":
            each.append(loss_of(learner, params, episode.second))
        return sum(each) / len(each)

    def ours(base):
        key = jax.random.key(2)
        return learner.meta_loss(meta | {"base": base}, episode, key)[0]

    wanted = jax.jit(jax.value_and_grad(by_hand))(meta["base"])
    got = jax.jit(jax.value_and_grad(ours))(meta["base"])
    chex.assert_trees_all_close(got, wanted, rtol=2e-4, atol=1e-6)
    # The head knows its two classes apart.
    head = got[1]["head"]["kernel"]
    assert np.abs(head[:, 0] - head[:, 1]).max() > 1e-3


def test_joint_training_by_hand():
    """One network of all languages: support and query are examples alike."""
    learner, meta, episode = made(fields_of("finetune"))
    assert "joint" not in meta
    both = (episode.support, episode.query)
    both = jax.tree.map(lambda *x: jnp.concatenate(x), *both)
    key = jax.random.key(2)
    ours = jax.grad(lambda m: learner.meta_loss(m, episode, key)[0])
    got = jax.jit(ours)(meta)
    alone = jax.jit(jax.grad(lambda p: loss_of(learner, p, both)))
    wanted = alone(meta["base"])
    chex.assert_trees_all_close(got["base"], wanted, rtol=1e-4, atol=1e-6)
    assert not any(x.any() for x in jax.tree.leaves(got["inner"]))


@pytest.mark.slow
def test_a_generator_takes_part_in_both_losses():
    fields = fields_of("htmaml", outer__domain_query="both")
    learner, meta, episode = made(fields, "both")
    loss = jax.jit(lambda e: learner.meta_loss(meta, e, jax.random.key(0)))
    both, metrics = loss(episode)
    swapped = episode._replace(query=episode.second, second=episode.query)
    again, others = loss(swapped)
    np.testing.assert_allclose(both, again, rtol=1e-5)
    assert metrics["other_macro_f1"] == others["macro_f1"]
    one = [loss(x._replace(second=None))[0] for x in (episode, swapped)]
    np.testing.assert_allclose(both, sum(one) / 2, rtol=1e-5)


def test_named_classes_stay_what_they_are():
    """Swapping the labels of the support does not swap the answers."""
    learner, meta, episode = made(fields_of("maml"))
    support = episode.support
    swapped = support._replace(targets=1 - support.targets)
    adapt = jax.jit(learner.adapt)
    one, two = (adapt(meta, x) for x in (support, swapped))
    inputs = episode.query.inputs
    a, b = (learner.predict(x, inputs) for x in (one, two))
    assert np.abs(a - b[:, ::-1]).max() > 1e-2
    # Without any label the head answers as it has learned to.
    nothing = support._replace(mask=jnp.zeros(6))
    got = learner.predict(adapt(meta, nothing), inputs)
    plain = learner.network().apply({"params": meta["base"]}, inputs)
    np.testing.assert_allclose(got, plain, atol=1e-6)


def test_macro_f1_by_hand():
    """tp 2, fp 1, fn 1 and tp 1, fp 1, fn 1: (2/3 + 1/2) / 2."""
    guess, truth = [0, 0, 0, 1, 1, 1], [0, 0, 1, 1, 0, 0]
    mask = np.array([1, 1, 1, 1, 1, 0], np.float32)
    logits = np.eye(2)[guess]
    got = losses.macro_f1(logits, Batch(logits, np.array(truth), mask))
    np.testing.assert_allclose(got, (2 / 3 + 1 / 2) / 2, rtol=1e-6)
    # All of one class and guessed so: the other is not there to be missed.
    alone = Batch(logits[:3], np.zeros(3, int), np.ones(3))
    assert losses.macro_f1(logits[:3], alone) == 1
    # Never guessed, though there: F1 = 0 for it.
    wrong = Batch(logits[:3], np.array([0, 1, 1]), np.ones(3))
    np.testing.assert_allclose(losses.macro_f1(logits[:3], wrong), 0.25)


def test_what_a_model_is_sure_of():
    sure = np.array([0.99, 0.6, 0.95, 0.9, 0.2, 0.05, 0.1])
    odds = np.stack([sure, 1 - sure], axis=1)
    picked, guess = transfer.confident(odds, 0.85, 10)
    # Surest first, and as many of either class.
    assert picked.tolist() == [0, 2, 5, 6]
    assert guess.tolist() == [0, 0, 1, 1]
    picked, _ = transfer.confident(odds, 0.85, 1)
    assert picked.tolist() == [0, 5]
    assert not len(transfer.confident(odds[:4], 0.85, 10)[0])
