"""Augmentation of episodes on volumes, meta-training only.

What a task could also have been: mirrored or turned, its structure is
another one, and so it is in a negative. All volumes of a task change alike;
noise alone is drawn for each.
"""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp

from htmaml_jax.episode import Batch, Episode

_ORDERS = tuple(itertools.permutations(range(3)))


def augment(episode: Episode, key: jax.Array, strengths) -> Episode:
    """Augments support and query of an episode.

    Args:
      episode: of inputs [B, D, H, W, C], masks [B, D, H, W] for targets. Turns
        need cubes.
      key: of all that is drawn.
      strengths: `augment.Strengths`; flip (probability for each axis), turn
        (of another order of axes), invert (of a negative) and noise (its
        largest deviation, in units of the inputs) matter.
    """
    keys = jax.random.split(key, 6)
    flips = jax.random.bernoulli(keys[0], strengths.flip, (3,))
    order = jax.random.randint(keys[1], (), 0, len(_ORDERS))
    turned = jax.random.bernoulli(keys[2], strengths.turn)
    order = jnp.where(turned, order, 0)
    sign = 1 - 2 * jax.random.bernoulli(keys[3], strengths.invert)

    def place(x):
        """Mirrors and turns [B, D, H, W]."""
        for axis in range(3):
            x = jnp.where(flips[axis], jnp.flip(x, axis + 1), x)
        if not strengths.turn:
            return x
        ways = [jnp.transpose(x, (0, *(1 + a for a in o))) for o in _ORDERS]
        return jnp.stack(ways)[order]

    def side(batch: Batch, key: jax.Array) -> Batch:
        first, second = jax.random.split(key)
        x = jnp.moveaxis(jax.vmap(place, -1)(batch.inputs), 0, -1)
        level = strengths.noise * jax.random.uniform(
            first, (len(x), 1, 1, 1, 1)
        )
        x = sign * x + level * jax.random.normal(second, x.shape)
        return batch._replace(inputs=x, targets=place(batch.targets))

    return episode._replace(
        support=side(episode.support, keys[4]),
        query=side(episode.query, keys[5]),
    )
