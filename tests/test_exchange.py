"""Channel exchange and the contrastive loss."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import parsed, refused
from small import fields_of

from htmaml_jax import limits, systems
from htmaml_jax.data import find
from htmaml_jax.embed.contrastive import nt_xent, unit
from htmaml_jax.episode import Batch
from htmaml_jax.nets.conv4 import ConvBody
from htmaml_jax.outer import exchange

WAY = 3


def batch_of(inputs, targets, mask=None):
    mask = np.ones(len(targets)) if mask is None else mask
    return Batch(
        jnp.asarray(inputs, jnp.float32),
        jnp.asarray(targets, jnp.int32),
        jnp.asarray(mask, jnp.float32),
    )


def by_hand(one, two, temperature, same):
    """NT-Xent written as its definition, pair by pair."""
    both, count = np.concatenate([one, two]), len(one)
    total = 0.0
    for i in range(2 * count):
        partner = (i + count) % (2 * count)
        others = [
            np.exp(both[i] @ both[k] / temperature)
            for k in range(2 * count)
            if k == partner or not same[i % count, k % count]
        ]
        own = np.exp(both[i] @ both[partner] / temperature)
        total -= np.log(own / sum(others))
    return total / (2 * count)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**30), st.integers(2, 6))
def test_nt_xent_is_its_definition(seed, count):
    rng = np.random.default_rng(seed)
    one, two = (
        np.asarray(unit(jnp.asarray(rng.normal(size=(count, 4)))))
        for _ in range(2)
    )
    groups = rng.integers(0, 3, count)
    same = groups[:, None] == groups[None, :]
    np.testing.assert_allclose(
        nt_xent(one, two, 0.3, jnp.asarray(same)),
        by_hand(one, two, 0.3, same),
        rtol=1e-4,
    )
    np.testing.assert_allclose(
        nt_xent(one, two, 0.3), by_hand(one, two, 0.3, np.eye(count)), rtol=1e-4
    )


def test_padding_counts_nowhere():
    """However much of it there is, neither as one of a pair nor in a mean."""
    rng = np.random.default_rng(0)
    one, two = jnp.asarray(rng.normal(size=(2, 6, 4)), jnp.float32)
    targets = jnp.array([0, 0, 1, 1, 2, 2])
    whole = Batch(None, targets, jnp.ones(6))
    padded = Batch(
        None, jnp.concatenate([targets, targets]), jnp.repeat(whole.mask, 2)
    )
    padded = padded._replace(mask=padded.mask.at[6:].set(0.0))
    more = (jnp.concatenate([x, 9 * x[::-1]]) for x in (one, two))
    np.testing.assert_allclose(
        exchange.contrast(*more, padded, 0.3),
        exchange.contrast(one, two, whole, 0.3),
        rtol=1e-5,
    )


def test_partners_attract_and_others_repel():
    one = jnp.eye(4)
    assert nt_xent(one, one, 0.2) < nt_xent(one, one[::-1], 0.2)


def test_mean_of_the_other_classes():
    x = jnp.arange(6.0)[:, None] * jnp.ones((1, 2))
    batch = batch_of(x, [0, 0, 1, 1, 2, 2])
    got = exchange.of_others(x, batch, WAY)[:, 0]
    # Class means are 0.5, 2.5, 4.5.
    np.testing.assert_allclose(got, [3.5, 3.5, 2.5, 2.5, 1.5, 1.5])
    # A padded example says nothing, an absent class neither.
    batch = batch_of(x, [0, 0, 1, 1, 2, 2], [1, 0, 1, 1, 0, 0])
    got = exchange.of_others(x, batch, WAY)[:, 0]
    np.testing.assert_allclose(got[:4], [2.5, 0, 0, 0])


def test_the_least_important_channels_are_marked():
    x = jnp.ones((2, 1, 1, 5)) * jnp.asarray([5.0, 1, 4, 2, 3])
    mark = exchange.unimportant(x, None, 0.4)
    assert mark.tolist() == [False, True, False, True, False]
    scale = jnp.asarray([0.1, -3.0, 0.0, 2.0, 1.0])
    mark = exchange.unimportant(x, scale, 0.4)
    assert mark.tolist() == [True, False, True, False, False]
    # Where all are alike a share is marked, neither none nor all.
    assert exchange.unimportant(x, jnp.ones(5), 0.4).sum() == 2
    assert exchange.unimportant(x, scale, 0.01).sum() == 1


@pytest.mark.parametrize("donated", [False, True])
def test_channels_of_a_network_are_exchanged(donated):
    """Behind block 1 marked channels are the others', the rest unchanged."""
    rng = np.random.default_rng(0)
    body = ConvBody(8, 2, "pool", "group")
    inputs = rng.normal(size=(6, 8, 8, 1))
    batch = batch_of(inputs, [0, 0, 1, 1, 2, 2])
    donor = batch_of(rng.normal(size=(4, 8, 8, 1)), [0, 0, 1, 1], [1, 1, 1, 0])
    params = body.init(jax.random.key(0), batch.inputs)["params"]
    scale = jnp.arange(8.0)

    def features(batch, *more):
        return body.apply({"params": params}, batch.inputs, batch.mask, *more)

    seen = {}

    def maps(which, batch):
        def watch(block, x):
            if block == 1:
                seen[which] = x
            return x

        features(batch, False, watch)
        return seen[which]

    mine, theirs = maps("mine", batch), maps("theirs", donor)
    got = exchange.changed_features(
        features, batch, WAY, 1, scale, 0.25, donor if donated else None
    )
    wanted = np.array(mine)
    marked = [0, 1]
    if donated:
        wanted[..., marked] = np.asarray(theirs)[:3].mean(0)[..., marked]
    else:
        for i in range(6):
            others = [j for j in range(6) if j // 2 != i // 2]
            wanted[i][..., marked] = np.array(mine)[others].mean(0)[..., marked]
    pooled = wanted.reshape(6, 2, 2, 2, 2, 8).max((2, 4)).reshape(6, -1)
    np.testing.assert_allclose(got, pooled, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_terms_reach_the_network_and_the_metrics():
    fields = fields_of(
        "maml",
        outer__exchange__kind="both",
        outer__exchange__layer=0,
        outer__auxiliary=0.5,
    )
    learner = systems.build(fields, 5)
    assert learner.paired and not learner.shuffled
    episode = find.blank_episode(fields.data)
    rng = np.random.default_rng(0)

    def drawn(side):
        x = rng.normal(size=side.inputs.shape).astype(np.float32)
        return side._replace(inputs=jnp.asarray(x))

    episode = episode._replace(
        support=drawn(episode.support), query=drawn(episode.query)
    )
    meta = jax.jit(learner.init)(jax.random.key(0), episode)
    other = drawn(episode.support)

    def loss(meta, learner):
        return learner.meta_loss(meta, episode, jax.random.key(1), 1.0, other)

    gradient = jax.value_and_grad(loss, has_aux=True)
    gradient = jax.jit(gradient, static_argnums=1)
    (value, metrics), grads = gradient(meta, learner)
    terms = {
        "auxiliary": 0.5,
        "exchange": 0.1,
        "exchange_tasks": 0.1,
    }
    extra = sum(weight * metrics[name] for name, weight in terms.items())
    np.testing.assert_allclose(value, metrics["loss"] + extra, rtol=1e-5)
    (plain, _), without = gradient(meta, systems.build(fields_of("maml"), 5))
    np.testing.assert_allclose(plain, metrics["loss"], rtol=1e-5)
    apart = jax.tree.map(
        lambda a, b: float(jnp.abs(a - b).max()), grads, without
    )
    assert min(jax.tree.leaves(apart["base"]["body"])) > 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("outer.exchange.kind=some", ("outer.exchange.kind", "class")),
        ("outer.exchange.kind=class,outer.exchange.layer=4", ("0 to 3",)),
        ("outer.exchange.share=1.5", ("outer.exchange.share", "at most 1")),
        ("system=finetune,outer.auxiliary=0.1", ("outer.objective=joint",)),
        ("data.name=liu,net.kind=ngrams,outer.auxiliary=0.1", ("pictures",)),
        ("pretrain.crop=1.2", ("pretrain.crop", "at most 1")),
        ("embed.pretrained=x", ("embed.body=own",)),
        (
            "system=maml,embed.body=own,embed.pretrained=x",
            ("reads the support set",),
        ),
        ("net.norm=support,outer.exchange.kind=task", ("norm statistics",)),
        ("system=finetune,outer.joint_until=0.5", ("is joint all along",)),
        ("system=reptile,outer.joint_until=0.5", ("outer.gradient=reptile",)),
        ("outer.joint_until=1.0", ("outer.joint_until", "below 1")),
        ("eval.transductive=True", ("net.norm=support",)),
        (
            "outer.exchange.kind=class,outer.exchange.weight=0.0",
            ("outer.exchange.weight is 0",),
        ),
        (
            "hyper.blend=0.4,hyper.head=prototype",
            ("hyper.blend needs", "hyper.head=shared"),
        ),
        ("system=maml,hyper.blend=0.4", ("hyper.blend needs",)),
        (
            "system=mamlpp,outer.gradient=first",
            ("of first order all along", "outer.second_from=0.0"),
        ),
        ("pretrain.drop=0.5", ("pretrain.drop is for n-grams",)),
        ("net.norm=instance", ("for net.kind=unet",)),
        ("data.name=clinc15", ("'clinc15' is unknown", "mean 'clinc150'?")),
        ("data.name=brains+liu", ("'liu' is joined with nothing",)),
        ("net.deep=True", ("for net.kind=unet",)),
    ],
)
def test_configs_that_cannot_work(text, words):
    refused(lambda: limits.check(parsed(text)), *words)
