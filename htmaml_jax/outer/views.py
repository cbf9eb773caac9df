"""Two views of one example, and the loss that makes them attract."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from htmaml_jax.embed.contrastive import Projected, nt_xent
from htmaml_jax.outer.augment import Strengths, change_clips, drop_ids
from htmaml_jax.outer.volumes import change_contrast


class Views(NamedTuple):
    """What may differ between two views of one example.

    Attributes:
      crop: share of a clip's columns (time) that a view keeps (COLA, Saeed et
        al., ICASSP 2021), of a text's n-grams, a stretch of them, or of each
        side of a volume.
      change: strengths of what else changes; the fields for classes must be
        zero. Of texts only `drop`: two views differ in what is left out, as in
        SimCSE (Gao et al., EMNLP 2021). Of volumes only `gain`, of contrast.
    """

    crop: float
    change: Strengths


def view(inputs: jax.Array, key: jax.Array, views: Views) -> jax.Array:
    """Draws a view of each example: a crop, then changes.

    Examples are clips [B, H, W, C], volumes [B, D, H, W, C], or ids of n-grams
    [B, L] with 0 behind.
    """
    first, second = jax.random.split(key)
    if inputs.ndim == 5:
        return _part_of_volume(inputs, first, second, views)
    if inputs.dtype == jnp.int32:
        part = _stretch_of_text(inputs, first, views.crop)
        return drop_ids(part, second, views.change.drop)
    count, _, columns, _ = inputs.shape
    kept = max(1, round(views.crop * columns))
    start = jax.random.randint(first, (count,), 0, columns - kept + 1)

    def crop(x, at):
        return jax.lax.dynamic_slice_in_dim(x, at, kept, axis=1)

    return change_clips(jax.vmap(crop)(inputs, start), second, views.change)


def _part_of_volume(inputs, first, second, views):
    """Cuts a smaller cube out of each volume, and changes its contrast."""
    count, *sides, _ = inputs.shape
    kept = [max(1, round(views.crop * side)) for side in sides]
    room = jnp.array([s - k + 1 for s, k in zip(sides, kept, strict=True)])
    start = jax.random.randint(first, (count, 3), 0, room)

    def change(x, at, key):
        x = jax.lax.dynamic_slice(x, (*at, 0), (*kept, x.shape[-1]))
        return change_contrast(x, key, views.change.gain)

    return jax.vmap(change)(inputs, start, jax.random.split(second, count))


def _stretch_of_text(ids, key, share):
    """Keeps a stretch of the n-grams of each text; the others become 0."""
    length = jnp.sum(ids > 0, axis=1, keepdims=True)
    kept = jnp.ceil(share * length).astype(jnp.int32)
    start = jax.random.randint(key, length.shape, 0, length - kept + 1)
    place = jnp.arange(ids.shape[1])
    return ids * ((place >= start) & (place < start + kept))


def pair(inputs: jax.Array, key: jax.Array, views: Views) -> list[jax.Array]:
    """Draws two views of each clip [B, H, W, C]."""
    return [view(inputs, k, views) for k in jax.random.split(key)]


def strengths(pretrain: Any) -> Views:
    """Reads how views differ from the config group `pretrain`."""
    names = ("time_mask", "row_mask", "gain", "mix", "drop")
    return Views(
        pretrain.crop, Strengths(**{name: pretrain[name] for name in names})
    )


def view_loss(
    network: Projected,
    params: Any,
    drawn: tuple[jax.Array, jax.Array, jax.Array],
    key: jax.Array,
    views: Views,
    temperature: float,
) -> jax.Array:
    """Returns NT-Xent of two views of each of B examples.

    Args:
      network: an encoder with its projection.
      params: its parameters.
      drawn: inputs [B, ...], those of partners that say the same, and groups
        [B]; examples of one group do not repel each other.
      key: of the views.
      views: how they differ.
      temperature: see `nt_xent`.
    """
    *sides, groups = drawn
    one, two = (
        network.apply({"params": params}, view(x, k, views))
        for x, k in zip(sides, jax.random.split(key), strict=True)
    )
    same = groups[:, None] == groups[None, :]
    return nt_xent(one, two, temperature, same)
