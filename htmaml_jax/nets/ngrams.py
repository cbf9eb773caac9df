"""A text network that needs no download: a bag of hashed n-grams."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from htmaml_jax.nets.mlp import VectorBody

BUCKETS = 2**15  # rows of the table; ids are 1 .. BUCKETS - 1


class NgramBody(nn.Module):
    """Weighted mean of n-gram embeddings, then residual layers.

    After fastText (Joulin et al., 2017). Embeddings start at random, so that
    before any training two texts are as alike as their n-grams overlap.

    Attributes:
      buckets: rows of the table; id 0 stands for no n-gram.
      dim: numbers per n-gram.
      width: units inside each residual layer.
      layers: number of them.
    """

    buckets: int
    dim: int = 256
    width: int = 128
    layers: int = 1

    @nn.compact
    def __call__(self, inputs: jax.Array, *_: Any) -> jax.Array:
        """Maps n-gram ids [B, L], 0 for padding, to features [B, dim]."""
        table = nn.Embed(self.buckets, self.dim, name="table")(inputs)
        # How much an n-gram counts; all alike at first.
        scale = nn.Embed(
            self.buckets,
            1,
            embedding_init=nn.initializers.zeros,
            name="weights",
        )(inputs)
        weight = jnp.exp(scale) * (inputs > 0)[..., None]
        bag = jnp.sum(weight * table, axis=-2)
        # The small constant keeps the root's slope finite for no n-grams.
        size = jnp.sqrt(jnp.sum(bag**2, axis=-1, keepdims=True) + 1e-6)
        return VectorBody(self.width, self.layers, name="vector")(bag / size)
