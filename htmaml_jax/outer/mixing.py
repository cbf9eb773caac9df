"""Channel Shuffle and MetaMix: harder tasks from the tasks there are.

Yao et al., ICML 2021 (arXiv 2007.13040), §3. Shuffle: behind one block, one
group of channels of every class is replaced by that of another class, on
support and query alike, and labels stay. MetaMix: behind one block, queries
are blended with support examples, as their labels are; here before the block
pools, where the paper has it after.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from htmaml_jax.episode import Batch, Episode

# Cuts 32 channels at 0, 6, 11, 16, 22, 27 and 32, as the published code does.
GROUPS = 6


class Shuffle(NamedTuple):
    """One way to shuffle the channels of a task.

    Attributes:
      layer: [] int32 block behind which it happens.
      group: [] int32 of the channels, 0 to GROUPS - 1.
      shift: [] int32, class n gets the channels of class n + shift; 0: none.
    """

    layer: jax.Array
    group: jax.Array
    shift: jax.Array


def draw_shuffle(
    key: jax.Array, share: float, way: int, blocks: int
) -> Shuffle:
    """Draws a shuffle for a task; with probability 1 - share an idle one.

    Args:
      key: of all that is random in it.
      share: of the tasks that are shuffled.
      way: class slots N.
      blocks: of the network. Behind the last one nothing is shuffled: the
        head alone would have to undo it.
    """
    keys = jax.random.split(key, 4)
    on = jax.random.bernoulli(keys[0], share)
    shift = jax.random.randint(keys[1], (), 1, max(way, 2))
    return Shuffle(
        jax.random.randint(keys[2], (), 0, max(blocks - 1, 1)),
        jax.random.randint(keys[3], (), 0, GROUPS),
        jnp.where(on, shift, 0),
    )


def donors(batch: Batch, way: int, shift: jax.Array) -> jax.Array:
    """Returns [B]: the example that gives each one its channels.

    The one of class (n + shift) mod N with the same rank among the examples
    of its class; an example for which there is none keeps its own.
    """
    count = len(batch.targets)
    place = jnp.arange(count)
    real = batch.mask > 0
    same = batch.targets[:, None] == batch.targets[None, :]
    earlier = place[None, :] < place[:, None]
    rank = jnp.sum(same & earlier & real[None, :], axis=1)
    wanted = (batch.targets + shift) % way
    fits = wanted[:, None] == batch.targets[None, :]
    fits &= (rank[:, None] == rank[None, :]) & real[None, :] & real[:, None]
    return jnp.where(fits.any(axis=1), jnp.argmax(fits, axis=1), place)


def shuffling(
    shuffle: Shuffle, batches: Sequence[Batch], way: int
) -> Callable[[int, jax.Array], jax.Array]:
    """Returns (block, features [B, ..., C]) -> features, shuffled.

    It is given the examples of all `batches`, each of which is shuffled in
    itself.
    """
    found, start = [], 0
    for batch in batches:
        found.append(start + donors(batch, way, shuffle.shift))
        start += len(batch.targets)
    given = jnp.concatenate(found)

    def change(block, x):
        channels = x.shape[-1]
        group = jnp.arange(channels) * GROUPS // channels
        mark = (group == shuffle.group) & (block == shuffle.layer)
        return jnp.where(mark, x[given], x)

    return change


class Mix(NamedTuple):
    """One way to blend the queries of a task with its support.

    Attributes:
      layer: [] int32 block behind which it happens.
      partner: [Q] int32 support example of each query.
      weight: [Q] share of the query, 1 where nothing is blended.
    """

    layer: jax.Array
    partner: jax.Array
    weight: jax.Array


def draw_mix(
    key: jax.Array, share: float, support: Batch, query: Batch, blocks: int
) -> Mix:
    """Draws a blend for a task; with probability 1 - share an idle one.

    Args:
      key: of all that is random in it.
      share: of the tasks whose queries are blended.
      support: padded examples are nobody's partner.
      query: the queries.
      blocks: of the network.
    """
    keys = jax.random.split(key, 4)
    on = jax.random.bernoulli(keys[0], share)
    count = len(query.targets)
    weight = jax.random.beta(keys[1], 2.0, 2.0, (count,))
    odds = jnp.where(support.mask > 0, 0.0, -jnp.inf)
    return Mix(
        jax.random.randint(keys[2], (), 0, max(blocks - 1, 1)),
        jax.random.categorical(keys[3], odds, shape=(count,)),
        jnp.where(on, weight, 1.0),
    )


def mixing(mix: Mix, count: int) -> Callable[[int, jax.Array], jax.Array]:
    """Returns (block, features) -> features, queries blended.

    It is given `count` queries and behind them the support [Q + S, ..., C].
    """

    def change(block, x):
        weight = mix.weight.reshape(-1, *[1] * (x.ndim - 1)).astype(x.dtype)
        other = x[count:][mix.partner]
        blended = weight * x[:count] + (1 - weight) * other
        blended = jnp.where(block == mix.layer, blended, x[:count])
        return jnp.concatenate([blended, x[count:]])

    return change


def changes(
    shuffle: Shuffle | None, mix: Mix | None, episode: Episode, way: int
) -> Callable[[int, jax.Array], jax.Array]:
    """Returns what happens to the features of queries and, behind, support."""
    query, support = episode.query, episode.support

    def change(block, x):
        if shuffle is not None:
            x = shuffling(shuffle, [query, support], way)(block, x)
        if mix is not None:
            x = mixing(mix, len(query.targets))(block, x)
        return x

    return change


def blended_targets(mix: Mix, episode: Episode, way: int) -> jax.Array:
    """Returns [Q, N]: the classes of blended queries, in their shares."""
    own = jax.nn.one_hot(episode.query.targets, way)
    other = jax.nn.one_hot(episode.support.targets[mix.partner], way)
    return mix.weight[:, None] * own + (1 - mix.weight[:, None]) * other
