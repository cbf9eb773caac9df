"""Channel exchange: unimportant channels of a class become those of others.

After EX-MAML (Zhang et al., ICEDCS 2022), whose abstract alone is public; what
it leaves open is our reading. A channel counts as unimportant where the scale
of its norm layer is small; without norm layers, where its activations are. A
share of the channels stands in for a threshold, which few scales would fall
under. Beside other classes of the task, another task may give its channels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict

from htmaml_jax.embed.contrastive import nt_xent, unit
from htmaml_jax.episode import Batch, one_hot


def norm_scale(body: Any, layer: int) -> jax.Array | None:
    """Returns the norm layer's scale [C] of a block, if it has one."""
    for path, leaf in flatten_dict(body).items():
        if path[0] == f"norm{layer}" and path[-1] == "scale":
            return leaf
    return None


def unimportant(
    x: jax.Array, scale: jax.Array | None, share: float
) -> jax.Array:
    """Marks the `share` of channels [C] that matter least.

    Args:
      x: features [B, ..., C].
      scale: of the norm layer [C]; None to go by the size of features.
      share: of channels; at least one is marked.
    """
    size = (
        jnp.abs(scale) if scale is not None else jnp.mean(jnp.abs(x), (0, 1, 2))
    )
    count = max(1, round(share * size.shape[0]))
    # By rank: many scales are equal at first, a quantile would take them all.
    rank = jnp.argsort(jnp.argsort(jax.lax.stop_gradient(size)))
    return rank < count


def of_others(x: jax.Array, batch: Batch, way: int) -> jax.Array:
    """Returns for each example the mean features of the other classes.

    mu_{-n} = mean over classes j != n that are there of the mean over their
    examples; x [B, ..., C] to the same shape. A class alone gets zeros.
    """
    members = one_hot(batch, way)
    count = jnp.sum(members, axis=0)
    means = jnp.tensordot(members / jnp.maximum(count, 1), x, (0, 0))
    there = (count > 0).astype(x.dtype)
    each = there[:, None] * (1 - jnp.eye(way)) / jnp.maximum(there.sum() - 1, 1)
    return jnp.tensordot((members @ each.T), means, (1, 0))


def changed_features(
    features: Callable[..., jax.Array],
    batch: Batch,
    way: int,
    layer: int,
    scale: jax.Array | None,
    share: float,
    donor: Batch | None = None,
) -> jax.Array:
    """Returns features [B, F] of a batch with channels exchanged.

    Args:
      features: (batch, stored, change) -> features, of the base network.
      batch: the examples.
      way: class slots N.
      layer: block behind whose norm channels are exchanged.
      scale: of that norm [C]; None to go by the size of features.
      share: of channels that are.
      donor: examples of another task, whose mean features are given; None
        for those of the other classes.
    """
    count = len(batch.targets)
    every = batch
    if donor is not None:
        every = jax.tree.map(lambda *x: jnp.concatenate(x), batch, donor)

    def change(block, x):
        if block != layer:
            return x
        mine, given = x[:count], x[count:]
        mark = unimportant(mine, scale, share)
        if donor is None:
            other = of_others(mine, batch, way)
        else:
            weight = donor.mask / jnp.maximum(jnp.sum(donor.mask), 1)
            other = jnp.tensordot(weight, given, (0, 0))
        return jnp.concatenate([jnp.where(mark, other, mine), given])

    return features(every, False, change)[:count]


def contrast(
    plain: jax.Array, changed: jax.Array, batch: Batch, temperature: float
) -> jax.Array:
    """Returns the contrastive term between features before and after.

    Positives are one example's features [B, F] before and after the exchange,
    negatives those of examples of other classes.
    """
    same = batch.targets[:, None] == batch.targets[None, :]
    views = unit(plain), unit(changed)
    return nt_xent(*views, temperature, same, batch.mask)
