"""What an encoder of support sets says of a task."""

from __future__ import annotations

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict


class TaskEmbedding(NamedTuple):
    """What a generator may know of a task.

    Attributes:
      tokens: [M, D] one token per class slot, which carries no slot index;
        or one per support example where there are no classes.
      summary: [E] numbers for the whole task.
      valid: [M] bool, False for slots without examples.
      loss: [] reconstruction loss of the encoder, 0 if it has none.
    """

    tokens: jax.Array
    summary: jax.Array
    valid: jax.Array
    loss: jax.Array | float = 0.0


def statistics(params: Any, gradient: Any) -> jax.Array:
    """Returns [4 L] numbers of L parameters and of their support gradient.

    Mean and size of each tensor, on a scale where small gradients show: the
    layer-wise inputs of ALFA (Baik et al., 2020, §3.2), and our own reading
    of what TAPT (Moon et al., 2024) conditions on.
    """

    def of(tree):
        leaves = list(flatten_dict(tree, sep="/").values())
        means = jnp.stack([jnp.mean(x) for x in leaves])
        sizes = jnp.stack([jnp.mean(x**2) for x in leaves])
        log = 0.5 * jnp.log(sizes + 1e-12)
        return [jnp.arcsinh(1e3 * means) / 5, log / 5]

    return jnp.concatenate([*of(params), *of(gradient)])


def gradient_means(gradient: Any) -> jax.Array:
    """Returns [L]: the mean gradient of each tensor (L2F, 2020, eq. 4)."""
    leaves = flatten_dict(gradient, sep="/").values()
    return jnp.stack([jnp.mean(x) for x in leaves])


class Tree(nn.Module):
    """Soft clusters in a tree, after HSML (Yao et al., 2019, eq. 6 and 7).

    Each level assigns a vector to the nearest of its learned centres and
    passes on the mixture of their maps; a level has half as many as the one
    below, down to one.

    Attributes:
      leaves: centres of the first level; 0 for no tree.
    """

    leaves: int = 4

    @nn.compact
    def __call__(self, summary: jax.Array) -> jax.Array:
        """Puts what the root says, [D], behind the summary [D]."""
        if not self.leaves:
            return summary
        vector = summary
        width, count, level = vector.shape[-1], self.leaves, 0
        while count >= 1:
            shape = (count, width)
            normal = nn.initializers.normal(1.0)
            centres = self.param(f"centres{level}", normal, shape)
            near = -jnp.sum((centres - vector) ** 2, axis=-1) / width
            maps = nn.Dense(count * width, name=f"maps{level}")(vector)
            maps = jnp.tanh(maps.reshape(count, width))
            vector = jax.nn.softmax(near) @ maps
            count, level = count // 2, level + 1
        return jnp.concatenate([summary, vector])
