"""Augmentation of episodes on volumes, for meta-training and for tuning.

What a task could also have been: mirrored or turned, its structure is
another one, and so it is in a negative. All volumes of a task change alike:
what lies on the left lies there in each. And what a volume could also have
been, of another patient or from another scanner: bent, its contrast changed,
noisy (as in nnU-Net, Isensee et al., Nature Methods 2021). This is drawn for
each, and a mask is bent with its image.
"""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates

from htmaml_jax.episode import Batch, Episode

_ORDERS = tuple(itertools.permutations(range(3)))
_UNMIRRORED = ((0, 1, 2), (1, 2, 0), (2, 0, 1))
_KNOTS = 4  # of an elastic deformation, per axis


def augment(episode: Episode, key: jax.Array, way: int, strengths) -> Episode:
    """Augments support and query of an episode.

    Args:
      episode: of inputs [B, D, H, W, C], masks [B, D, H, W] for targets. Turns
        need cubes.
      key: of all that is drawn.
      way: structures N.
      strengths: `augment.Strengths`. Of the task: flip (probability for each
        axis), turn (of another order of axes; where nothing is flipped, of
        one that does not mirror either), invert (of a negative). Of each
        volume: affine and elastic (see `bend`), gamma (see
        `change_contrast`), noise (its largest deviation, in units of the
        inputs).
    """
    keys = jax.random.split(key, 6)
    flips = jax.random.bernoulli(keys[0], strengths.flip, (3,))
    orders = _ORDERS if strengths.flip else _UNMIRRORED
    order = jax.random.randint(keys[1], (), 0, len(orders))
    turned = jax.random.bernoulli(keys[2], strengths.turn)
    order = jnp.where(turned, order, 0)
    sign = 1 - 2 * jax.random.bernoulli(keys[3], strengths.invert)

    def place(x):
        """Mirrors and turns [B, D, H, W]."""
        for axis in range(3):
            x = jnp.where(flips[axis], jnp.flip(x, axis + 1), x)
        if not strengths.turn:
            return x
        ways = [jnp.transpose(x, (0, *(1 + a for a in o))) for o in orders]
        return jnp.stack(ways)[order]

    def side(batch: Batch, key: jax.Array) -> Batch:
        first, second, third = jax.random.split(key, 3)
        x = jnp.moveaxis(jax.vmap(place, -1)(batch.inputs), 0, -1)
        masks = place(batch.targets)
        each = jax.random.split(third, (2, len(x)))
        if strengths.affine or strengths.elastic:
            how = way, strengths.affine, strengths.elastic
            x, masks = jax.vmap(lambda *a: bend(*a, *how))(x, masks, each[0])
        if strengths.gamma:
            x = jax.vmap(lambda *a: change_contrast(*a, strengths.gamma))(
                x, each[1]
            )
        level = strengths.noise * jax.random.uniform(
            first, (len(x), 1, 1, 1, 1)
        )
        x = sign * x + level * jax.random.normal(second, x.shape)
        return batch._replace(inputs=x, targets=masks)

    return episode._replace(
        support=side(episode.support, keys[4]),
        query=side(episode.query, keys[5]),
    )


def vary(batch: Batch, key: jax.Array, way: int, strength: float) -> Batch:
    """Bends each volume of a batch and changes its contrast; see `bend`.

    Args:
      batch: of volumes.
      key: of all that is drawn.
      way: structures N.
      strength: of the linear map and of the contrast; of the knots a third.
    """
    each = jax.random.split(key, (2, len(batch.targets)))
    x, masks = jax.vmap(lambda *a: bend(*a, way, strength, strength / 3))(
        batch.inputs, batch.targets, each[0]
    )
    x = jax.vmap(lambda *a: change_contrast(*a, strength))(x, each[1])
    return batch._replace(inputs=x, targets=masks)


def bend(
    image: jax.Array,
    mask: jax.Array,
    key: jax.Array,
    way: int,
    affine: float,
    elastic: float,
) -> tuple[jax.Array, jax.Array]:
    """Bends a volume [D, H, W, C] and its mask [D, H, W] as one.

    Both are read by linear interpolation where each cell has its origin;
    beyond the border they repeat. A cell is then of what it has most of.

    Args:
      image: of a volume.
      mask: 0 to N.
      key: of the deformation.
      way: structures N.
      affine: largest change of each of the nine numbers of the linear map
        around the middle, which rotate (in radians, where small), scale and
        shear; below 1/3 the map can be inverted.
      elastic: largest move of each knot of a coarse grid (as Ronneberger et
        al., 2015, §3.1) along each axis, as a share of the side; linear in
        between.
    """
    first, second = jax.random.split(key)
    sides = jnp.array(mask.shape, image.dtype)[:, None, None, None]
    grid = jnp.indices(mask.shape, image.dtype)
    change = affine * jax.random.uniform(first, (3, 3), minval=-1.0)
    turned = jnp.tensordot(change, grid - (sides - 1) / 2, 1)
    knots = jax.random.uniform(second, (3, *(_KNOTS,) * 3), minval=-1.0)
    moves = jax.image.resize(knots, grid.shape, "linear")
    places = grid + turned + elastic * sides * moves

    def read(x):
        return map_coordinates(x, list(places), order=1, mode="nearest")

    shares = [read((mask == k).astype(image.dtype)) for k in range(way + 1)]
    found = jnp.argmax(jnp.stack(shares), 0).astype(mask.dtype)
    return jax.vmap(read, -1, -1)(image), found


def change_contrast(
    image: jax.Array, key: jax.Array, strength: float
) -> jax.Array:
    """Raises a volume, as a share of its range, to a power around one.

    The power is exp of a number of at most `strength`; mean and deviation
    stay what they were.
    """
    power = jnp.exp(strength * jax.random.uniform(key, minval=-1.0))
    low, high = jnp.min(image), jnp.max(image)
    x = (image - low) / jnp.maximum(high - low, 1e-6)
    x = x**power
    x = (x - jnp.mean(x)) / jnp.maximum(jnp.std(x), 1e-6)
    return jnp.mean(image) + jnp.std(image) * x
