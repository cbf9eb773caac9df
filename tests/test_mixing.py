"""Channel Shuffle and MetaMix."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import parsed, refused
from small import fields_of
from test_exchange import batch_of

from htmaml_jax import limits, systems
from htmaml_jax.data import find
from htmaml_jax.episode import Episode
from htmaml_jax.outer import losses, mixing

WAY = 3


def shuffle_of(layer=0, group=0, shift=1):
    return mixing.Shuffle(*map(jnp.asarray, (layer, group, shift)))


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**30), st.integers(1, 3), st.integers(1, WAY - 1))
def test_each_example_gets_channels_of_its_rank_in_the_next_class(
    seed, shot, shift
):
    rng = np.random.default_rng(seed)
    targets = rng.permutation(np.repeat(np.arange(WAY), shot))
    batch = batch_of(np.zeros((len(targets), 1)), targets)
    given_by = np.asarray(mixing.donors(batch, WAY, shift))
    np.testing.assert_array_equal(targets[given_by], (targets + shift) % WAY)
    assert sorted(given_by) == list(range(len(targets)))  # nobody twice


def test_padding_neither_gives_nor_takes():
    batch = batch_of(np.zeros((4, 1)), [0, 1, 2, 1], [1, 0, 1, 1])
    # The only real example of class 1 is the last one.
    np.testing.assert_array_equal(mixing.donors(batch, WAY, 1), [3, 1, 0, 2])


def test_shuffle_moves_one_group_of_channels_behind_one_block():
    batch = batch_of(np.zeros((3, 1)), [0, 1, 2])
    x = jnp.arange(3.0)[:, None] * jnp.ones((1, 12))
    change = mixing.shuffling(shuffle_of(1, 2), [batch], WAY)
    np.testing.assert_array_equal(change(0, x), x)
    moved = np.asarray(change(1, x))
    np.testing.assert_array_equal(moved[:, 4:6], [[1, 1], [2, 2], [0, 0]])
    np.testing.assert_array_equal(np.delete(moved, [4, 5], 1), x[:, :10])
    still = mixing.shuffling(shuffle_of(1, 2, 0), [batch], WAY)
    np.testing.assert_array_equal(still(1, x), x)


def test_groups_cut_32_channels_as_published():
    group = np.arange(32) * mixing.GROUPS // 32
    starts = [int(np.argmax(group == g)) for g in range(mixing.GROUPS)]
    assert starts == [0, 6, 11, 16, 22, 27]


def test_queries_and_support_are_each_shuffled_in_themselves():
    query = batch_of(np.zeros((3, 1)), [2, 1, 0])
    support = batch_of(np.zeros((3, 1)), [0, 1, 2])
    episode = Episode(support, query, 0, 0)
    x = jnp.asarray([12.0, 11, 10, 0, 1, 2])[:, None] * jnp.ones((1, 6))
    change = mixing.changes(shuffle_of(), None, episode, WAY)
    np.testing.assert_array_equal(change(0, x)[:, 0], [10, 12, 11, 1, 2, 0])


def test_metamix_blends_features_and_classes_alike():
    query = batch_of(np.zeros((2, 1)), [0, 1])
    support = batch_of(np.zeros((3, 1)), [0, 1, 2])
    mix = mixing.Mix(
        jnp.asarray(1), jnp.asarray([2, 1]), jnp.asarray([0.25, 1.0])
    )
    x = jnp.asarray([8.0, 7, 0, 1, 4])[:, None]
    change = mixing.mixing(mix, 2)
    np.testing.assert_array_equal(change(0, x), x)
    np.testing.assert_array_equal(change(1, x)[:, 0], [5, 7, 0, 1, 4])
    shares = mixing.blended_targets(mix, Episode(support, query, 0, 0), WAY)
    np.testing.assert_array_equal(shares, [[0.25, 0, 0.75], [0, 1, 0]])
    # lam CE(y_q) + (1 - lam) CE(y_s), by hand.
    logits = jnp.asarray([[1.0, 2.0, 3.0], [0.0, 1.0, 0.0]])
    log = np.asarray(jax.nn.log_softmax(logits))
    wanted = -(0.25 * log[0, 0] + 0.75 * log[0, 2] + log[1, 1]) / 2
    np.testing.assert_allclose(
        losses.cross_entropy(logits, query, shares), wanted, rtol=1e-6
    )


def test_partners_are_real_and_shares_are_kept():
    support = batch_of(np.zeros((4, 1)), [0, 1, 2, 0], [1, 1, 1, 0])
    query = batch_of(np.zeros((6, 1)), [0, 1, 2, 0, 1, 2])
    keys = jax.random.split(jax.random.key(0), 300)
    mixes = jax.vmap(lambda key: mixing.draw_mix(key, 0.5, support, query, 4))(
        keys
    )
    assert set(np.unique(mixes.partner)) == {0, 1, 2}
    assert set(np.unique(mixes.layer)) == {0, 1, 2}  # not behind the last
    idle = np.asarray((mixes.weight == 1).all(1)).mean()
    assert 0.4 < idle < 0.6
    shuffles = jax.vmap(lambda key: mixing.draw_shuffle(key, 0.5, WAY, 4))(keys)
    assert set(np.unique(shuffles.shift)) == {0, 1, 2}
    assert 0.4 < float((shuffles.shift == 0).mean()) < 0.6
    assert set(np.unique(shuffles.group)) == set(range(mixing.GROUPS))


@pytest.mark.slow
@pytest.mark.parametrize("gradient", ["plain", "mixed"])
def test_training_meets_hardened_tasks(gradient):
    rng = np.random.default_rng(0)

    def drawn(side):
        x = rng.normal(size=side.inputs.shape).astype(np.float32)
        targets = jnp.arange(len(side.targets)) % 5
        return side._replace(inputs=jnp.asarray(x), targets=targets)

    fields = fields_of("maml", net__blocks=2, outer__gradient=gradient)
    episode = find.blank_episode(fields.data)
    episode = episode._replace(
        support=drawn(episode.support), query=drawn(episode.query)
    )

    def loss(**changes):
        config = fields.copy_and_resolve_references()
        config.outer.update(changes)
        learner = systems.build(config, 5)

        @jax.jit
        def first(episode):
            meta = learner.init(jax.random.key(1), episode)
            return learner.meta_loss(meta, episode, jax.random.key(2))[0]

        return first(episode)

    plain, shuffled, mixed = loss(), loss(shuffle=1.0), loss(mix=1.0)
    assert np.isfinite([plain, shuffled, mixed]).all()
    assert abs(plain - shuffled) > 1e-6
    assert abs(plain - mixed) > 1e-6


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("outer.shuffle=0.5,net.blocks=1", ("net.blocks",)),
        ("outer.mix=1.5", ("outer.mix", "at most 1")),
        ("outer.mix=-0.1", ("outer.mix", "0 or more")),
        ("system=reptile,outer.mix=0.5", ("reptile", "outer.mix=0")),
        ("system=finetune,outer.shuffle=0.5", ("outer.shuffle",)),
    ],
)
def test_configs_that_cannot_work(text, words):
    refused(lambda: limits.check(parsed(text)), *words)
