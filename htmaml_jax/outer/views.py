"""Two views of one clip, and the loss that makes them attract."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax

from htmaml_jax.embed.contrastive import Projected, nt_xent
from htmaml_jax.outer.augment import Strengths, change_clips


class Views(NamedTuple):
    """What may differ between two views of one clip.

    Attributes:
      crop: share of the columns (time) that a view keeps (COLA, Saeed et al.,
        ICASSP 2021).
      change: strengths of what else changes; the fields for classes must be
        zero.
    """

    crop: float
    change: Strengths


def view(inputs: jax.Array, key: jax.Array, views: Views) -> jax.Array:
    """Draws a view of each clip [B, H, W, C]: a crop, then changes."""
    first, second = jax.random.split(key)
    count, _, columns, _ = inputs.shape
    kept = max(1, round(views.crop * columns))
    start = jax.random.randint(first, (count,), 0, columns - kept + 1)

    def crop(x, at):
        return jax.lax.dynamic_slice_in_dim(x, at, kept, axis=1)

    return change_clips(jax.vmap(crop)(inputs, start), second, views.change)


def pair(inputs: jax.Array, key: jax.Array, views: Views) -> list[jax.Array]:
    """Draws two views of each clip [B, H, W, C]."""
    return [view(inputs, k, views) for k in jax.random.split(key)]


def strengths(pretrain: Any) -> Views:
    """Reads how views differ from the config group `pretrain`."""
    names = ("time_mask", "row_mask", "gain", "mix")
    return Views(
        pretrain.crop, Strengths(**{name: pretrain[name] for name in names})
    )


def view_loss(
    network: Projected,
    params: Any,
    inputs: jax.Array,
    recordings: jax.Array,
    key: jax.Array,
    views: Views,
    temperature: float,
) -> jax.Array:
    """Returns NT-Xent of two views of each of [B, H, W, C] clips.

    Clips that were cut from one recording do not repel each other.
    """
    one, two = (
        network.apply({"params": params}, x) for x in pair(inputs, key, views)
    )
    same = recordings[:, None] == recordings[None, :]
    return nt_xent(one, two, temperature, same)
