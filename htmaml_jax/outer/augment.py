"""Augmentation of spectrogram episodes, meta-training only.

Two kinds. Per example: what a recording could also have been (time roll,
masks after SpecAugment, Park et al. 2019; gain; a faint other clip behind).
Per class: what the task could also have been. A class whose clips are all
reversed in time, or all moved along the mel axis, is a new class; with few
meta-training classes this is what keeps a learner from knowing them by heart.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from htmaml_jax.episode import Batch, Episode
from htmaml_jax.outer import volumes


class Strengths(NamedTuple):
    """How strongly to augment; all zero leaves an episode as it is.

    Attributes:
      roll: largest circular time shift, as a share of the clip.
      time_mask: largest masked share of the columns.
      row_mask: largest masked share of the rows.
      gain: largest change of level, in units of the inputs.
      mix: largest weight of another clip of the episode.
      reverse: probability that a class is reversed in time.
      shift: largest move of a class along the rows, as a share of them.
      blend: largest weight of a second class in each class: the episode's
        classes become mixtures of two, all with one weight (after MLTI, Yao
        et al., arXiv 2106.02695, with both tasks taken from one episode).
      flip, turn, invert, affine, elastic, gamma: of volumes; see
        `outer.volumes`.
    """

    roll: float = 0.0
    time_mask: float = 0.0
    row_mask: float = 0.0
    gain: float = 0.0
    mix: float = 0.0
    reverse: float = 0.0
    shift: float = 0.0
    blend: float = 0.0
    drop: float = 0.0
    noise: float = 0.0
    flip: float = 0.0
    turn: float = 0.0
    invert: float = 0.0
    affine: float = 0.0
    elastic: float = 0.0
    gamma: float = 0.0


def augment(
    episode: Episode, key: jax.Array, way: int, strengths: Strengths
) -> Episode:
    """Augments support and query inputs of an episode.

    Pictures are [B, H, W, C]; of vectors [B, F] classes can be blended,
    numbers left out, and noise added.
    """
    if not any(strengths):
        return episode
    if episode.support.inputs.ndim == 5:
        return volumes.augment(episode, key, way, strengths)
    keys = jax.random.split(key, 4)
    vectors = episode.support.inputs.ndim == 2
    if episode.support.inputs.dtype == jnp.int32:
        return _without(episode, keys, strengths.drop)
    kept = _draw_kept(keys[0], episode.support.inputs, strengths.drop)
    classes = _draw_classes(keys[0], way, strengths)
    step, weight = _draw_blend(keys[3], way, strengths.blend)

    def side(batch: Batch, key: jax.Array) -> Batch:
        key, other, second = jax.random.split(key, 3)
        x = batch.inputs
        if not vectors:
            mine = jax.tree.map(lambda x: x[batch.targets], classes)
            x = jax.vmap(_change_class)(x, *mine)
        if strengths.blend:
            partner = _partners(batch, (batch.targets + step) % way, second)
            x = (1 - weight) * x + weight * x[partner]
        if vectors:
            spread = strengths.noise * jnp.std(x)
            x = kept * (x + spread * jax.random.normal(other, x.shape))
            return batch._replace(inputs=x)
        x = _mix(x, batch.mask, other, strengths.mix)
        each = jax.random.split(key, x.shape[0])
        x = jax.vmap(lambda x, k: _change_clip(x, k, strengths))(x, each)
        # Else XLA fuses all this into every reader of x and redoes it there.
        return batch._replace(inputs=jax.lax.optimization_barrier(x))

    return _sides(episode, side, keys)


def _sides(episode, change, keys):
    """Changes support, query and, where there is one, the second query."""
    second = episode.second
    if second is not None:
        second = change(second, jax.random.fold_in(keys[2], 1))
    return episode._replace(
        support=change(episode.support, keys[1]),
        query=change(episode.query, keys[2]),
        second=second,
    )


def change_clips(
    inputs: jax.Array, key: jax.Array, strengths: Strengths
) -> jax.Array:
    """Changes clips [B, H, W, C] one by one: all that leaves classes alone."""
    first, second = jax.random.split(key)
    x = _mix(inputs, jnp.ones(len(inputs)), first, strengths.mix)
    each = jax.random.split(second, len(inputs))
    return jax.vmap(lambda x, k: _change_clip(x, k, strengths))(x, each)


def _draw_kept(key, inputs, share):
    """Draws which numbers [F] of all vectors of a task stay, and scales them.

    At most `share` of them go: the same task, seen by a lesser encoder.
    """
    first, second = jax.random.split(key)
    gone = jax.random.uniform(first, maxval=share)
    kept = jax.random.uniform(second, inputs.shape[-1:]) >= gone
    return kept / jnp.sqrt(1 - gone)


def _without(episode, keys, share):
    """Leaves n-grams out of all texts of an episode; see `drop_ids`."""

    def side(batch, key):
        return batch._replace(inputs=drop_ids(batch.inputs, key, share))

    return _sides(episode, side, keys)


def drop_ids(inputs: jax.Array, key: jax.Array, share: float) -> jax.Array:
    """Leaves ids [B, L] of n-grams out, at most `share`, text by text."""
    first, second = jax.random.split(key)
    gone = jax.random.uniform(first, (len(inputs), 1), maxval=share)
    return inputs * (jax.random.uniform(second, inputs.shape) >= gone)


def _draw_classes(key, way, strengths):
    """Draws (reversed [N] bool, shift [N] in shares of the rows)."""
    first, second = jax.random.split(key)
    reverse = jax.random.bernoulli(first, strengths.reverse, (way,))
    limit = strengths.shift
    shift = jax.random.uniform(second, (way,), minval=-limit, maxval=limit)
    return reverse, shift


def _draw_blend(key, way, limit):
    """Draws how far on the partner of a class is, and its weight."""
    first, second = jax.random.split(key)
    step = jax.random.randint(first, (), 1, max(way, 2))
    return step, jax.random.uniform(second, (), maxval=limit)


def _partners(batch, wanted, key):
    """Picks for each example [B] a real example of the class `wanted` [B].

    An example whose wanted class is absent is its own partner.
    """
    fits = wanted[:, None] == batch.targets[None, :]
    fits &= batch.mask[None, :] > 0
    self = jnp.eye(len(wanted), dtype=bool)
    fits = jnp.where(fits.any(axis=1, keepdims=True), fits, self)
    odds = jnp.where(fits, 0.0, -jnp.inf)
    return jax.random.categorical(key, odds)


def _change_class(x, reverse, shift):
    """Reverses and moves one clip [H, W, C]; rows that come in repeat."""
    rows, columns = x.shape[:2]
    x = jnp.where(reverse, x[:, ::-1], x)
    moved = jnp.arange(rows) - jnp.round(shift * rows).astype(jnp.int32)
    return x[jnp.clip(moved, 0, rows - 1)]


def _mix(x, mask, key, limit):
    """Puts another real clip of the episode faintly behind each clip."""
    if not limit:
        return x
    first, second = jax.random.split(key)
    other = jax.random.categorical(
        first, jnp.where(mask > 0, 0.0, -jnp.inf), shape=mask.shape
    )
    weight = jax.random.uniform(second, (x.shape[0], 1, 1, 1), maxval=limit)
    return (1 - weight) * x + weight * x[other]


def _change_clip(x, key, strengths):
    """Rolls, masks and levels one clip [H, W, C]."""
    rows, columns = x.shape[:2]
    keys = jax.random.split(key, 6)
    if strengths.roll:
        limit = int(strengths.roll * columns)
        shift = jax.random.randint(keys[0], (), -limit, limit + 1)
        x = x[:, (jnp.arange(columns) - shift) % columns]
    if strengths.gain:
        x += strengths.gain * jax.random.uniform(keys[1], minval=-1.0)
    mean = jnp.mean(x)
    if strengths.time_mask:
        gone = _stretch(keys[2], keys[3], columns, strengths.time_mask)
        x = jnp.where(gone[None, :, None], mean, x)
    if strengths.row_mask:
        gone = _stretch(keys[4], keys[5], rows, strengths.row_mask)
        x = jnp.where(gone[:, None, None], mean, x)
    return x


def _stretch(first, second, size, share):
    """Marks a random stretch [size] of at most `share` of the places."""
    length = jax.random.randint(first, (), 0, int(share * size) + 1)
    start = jax.random.randint(second, (), 0, size - length + 1)
    place = jnp.arange(size)
    return (place >= start) & (place < start + length)
