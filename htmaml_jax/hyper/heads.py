"""Heads: what the last layer is before any step, and how far it moved."""

from __future__ import annotations

from typing import Any

import einops
import jax
import jax.numpy as jnp

from htmaml_jax.episode import Batch, one_hot


def spread(base: Any, columns: int, classes: bool = True) -> Any:
    """Gives every class slot the one column that all classes share.

    A column common to all classes cancels in the softmax: its meta-gradient
    is zero but for rounding, which Adam would blow up. So it is constant.
    Where there are no classes, parameters stay as they are.
    """
    if not classes:
        return dict(base)
    head = jax.tree.map(
        lambda x: jnp.repeat(jax.lax.stop_gradient(x), columns, axis=-1),
        base["head"],
    )
    return {**base, "head": head}


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
    if not sharpness:
        return head
    factor = sharpness / head["kernel"].shape[0]
    return jax.tree.map(lambda x: factor * x, head)


def contrast(
    features: jax.Array, support: Batch, sharpness: float = 0.0
) -> Any:
    """Makes the head whose logit is |f - c_0|^2 - |f - c_1|^2 for each voxel.

    What `prototypes` are for two classes, foreground c_1 and background c_0,
    as one output: masked averages (Zhang et al., arXiv 1810.09091, eq. 1) over
    all support volumes, which count alike.

    Args:
      features: [S, D, H, W, F] of the support set.
      support: its Batch, of masks [S, D, H, W].
      sharpness: see `sharpened`.

    Returns:
      {"kernel": [F, 1], "bias": [1]}.
    """
    share = support.mask / jnp.maximum(jnp.sum(support.mask), 1)
    inside = support.targets.astype(features.dtype)

    def centre(part):
        total = jnp.maximum(jnp.sum(part, (1, 2, 3)), 1)
        each = einops.einsum(part, features, "s d h w, s d h w f -> s f")
        return share @ (each / total[:, None])

    front, back = centre(inside), centre(1 - inside)
    bias = jnp.sum(back**2) - jnp.sum(front**2)
    head = {"kernel": 2 * (front - back)[:, None], "bias": bias[None]}
    return sharpened(head, sharpness)


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
