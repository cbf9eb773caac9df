"""Heads: what the last layer is before any step, and how far it moved."""

from __future__ import annotations

from typing import Any

import einops
import jax
import jax.numpy as jnp

from htmaml_jax.episode import Batch, one_hot


def spread(base: Any, columns: int, background: bool = False) -> Any:
    """Gives every slot the one column that all of them share.

    A column common to all classes cancels in the softmax: its meta-gradient
    is zero but for rounding, which Adam would blow up. So it is constant,
    unless there is a background, against which it does not cancel.
    """

    def each(x):
        x = x if background else jax.lax.stop_gradient(x)
        return jnp.repeat(x, columns, axis=-1)

    return {**base, "head": jax.tree.map(each, base["head"])}


def common(base: Any, joint: Any) -> Any:
    """Gives a base network the mean column of all that it was taught at once.

    Args:
      base: its parameters, with the head {"kernel": [F, 1], "bias": [1]}.
      joint: the head of joint training, a column for each class.
    """
    mean = jax.tree.map(lambda x: jnp.mean(x, -1, keepdims=True), joint)
    return {**base, "head": mean}


def prototypes(
    features: jax.Array, support: Batch, way: int, sharpness: float = 0.0
) -> Any:
    """Makes the head whose logits are -|f - c_k|^2 but for a constant.

    Args:
      features: [S, F] of the support set.
      support: its Batch.
      way: class slots N.
      sharpness: see `sharpened`.

    Returns:
      {"kernel": [F, N], "bias": [N]} from class means c_k: 2 c_k and
      -|c_k|^2 (Triantafillou et al., 2020, §3, eq. 4).
    """
    members = one_hot(support, way)
    count = jnp.maximum(jnp.sum(members, axis=0), 1)
    means = features.T @ members / count
    head = {"kernel": 2 * means, "bias": -jnp.sum(means**2, axis=0)}
    return sharpened(head, sharpness)


def sharpened(head: Any, sharpness: float) -> Any:
    """Makes logits -sharpness times the mean, not the sum, over features.

    The sum over some hundred features is a softmax that is sure of every
    support example, so that no gradient is left for an inner loop.

    Args:
      head: {"kernel": [F, N], "bias": [N]} of squared distances.
      sharpness: 0 leaves the sum.
    """
    factor = _factor(head["kernel"].shape[0], sharpness)
    return jax.tree.map(lambda x: factor * x, head)


def left_out(features: jax.Array, sharpness: float) -> jax.Array:
    """Returns [Q], what is to be taken from logits of `prototypes`.

    |f|^2 of features [Q, F], so that they become -|f - c_k|^2 and those of
    different queries can be compared. No probability depends on it, as all
    classes share it.
    """
    factor = _factor(features.shape[-1], sharpness)
    return factor * jnp.sum(features**2, axis=-1)


def _factor(features, sharpness):
    return sharpness / features if sharpness else 1.0


def contrast(
    features: jax.Array, support: Batch, way: int = 1, sharpness: float = 0.0
) -> Any:
    """Makes the head whose logits are |f - c_0|^2 - |f - c_k|^2 of a voxel.

    What `prototypes` are for the background c_0 and N structures c_k, with 0
    for the logit of the former: masked averages (Zhang et al., arXiv
    1810.09091, eq. 1) over all support volumes, which count alike.

    Args:
      features: [S, D, H, W, F] of the support set.
      support: its Batch, of targets [S, D, H, W] in 0 to N.
      way: structures N.
      sharpness: see `sharpened`.

    Returns:
      {"kernel": [F, N], "bias": [N]}.
    """
    share = support.mask / jnp.maximum(jnp.sum(support.mask), 1)
    parts = jax.nn.one_hot(support.targets, way + 1, dtype=features.dtype)
    total = jnp.maximum(jnp.sum(parts, (1, 2, 3)), 1)
    sums = einops.einsum(parts, features, "s d h w k, s d h w f -> s k f")
    centres = jnp.tensordot(share, sums / total[..., None], 1)
    back, front = centres[0], centres[1:]
    bias = jnp.sum(back**2) - jnp.sum(front**2, axis=1)
    head = {"kernel": 2 * (front - back).T, "bias": bias}
    return sharpened(head, sharpness)


def between(a: Any, b: Any, share: jax.Array | float) -> Any:
    """Returns the parameters that are `share` of the way from a to b."""
    return jax.tree.map(lambda x, y: x + share * (y - x), a, b)


def movement(
    start: Any, base: Any, classes: jax.Array | None = None
) -> jax.Array:
    """Returns how far a transform moved the weights.

    |start - base|^2 / |base|^2 over all parameters, of the head only the
    columns of `classes` [N] that are there, if given.
    """
    if classes is not None:
        head = jax.tree.map(
            lambda a, b: jnp.where(classes, a, b), start["head"], base["head"]
        )
        start = {**start, "head": head}
    difference = jax.tree.map(lambda a, b: jnp.sum((a - b) ** 2), start, base)
    size = jax.tree.map(lambda b: jnp.sum(b**2), base)
    total = sum(jax.tree.leaves(difference))
    return total / jax.lax.stop_gradient(sum(jax.tree.leaves(size)))
