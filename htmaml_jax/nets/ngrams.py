"""A text network that needs no download, on hashed n-grams."""

from __future__ import annotations

from typing import Any

import einops
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
      context: n-grams in a window of `Windows`, where a word has about
        twenty; 0 for the bag alone, which knows no order of words.
    """

    buckets: int
    dim: int = 256
    width: int = 128
    layers: int = 1
    context: int = 0

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
        said = weight * table
        bag = jnp.sum(said, axis=-2)
        # The small constant keeps the root's slope finite for no n-grams.
        size = jnp.sqrt(jnp.sum(bag**2, axis=-1, keepdims=True) + 1e-6)
        x = bag / size
        if self.context:
            windows = Windows(self.width, self.context, name="windows")
            x += windows(said / size[..., None], inputs > 0)
        return VectorBody(self.width, self.layers, name="vector")(x)


class Windows(nn.Module):
    """A convolution over parts of a text, and the strongest answers to it.

    N-grams that follow each other are summed in windows; a kernel of three
    windows reads these, and each of its filters answers with its largest
    value in the text (Kim, 2014). What it adds starts at zero.

    Attributes:
      width: filters.
      size: n-grams of a window.
    """

    width: int
    size: int

    @nn.compact
    def __call__(self, said: jax.Array, there: jax.Array) -> jax.Array:
        """Maps embeddings [B, L, D], where `there` [B, L], to [B, D]."""
        features = said.shape[-1]
        odd = -said.shape[-2] % self.size
        said = jnp.pad(said, ((0, 0), (0, odd), (0, 0)))
        there = jnp.pad(there, ((0, 0), (0, odd)))
        x = einops.reduce(said, "b (w s) d -> b w d", "sum", s=self.size)
        full = einops.reduce(there, "b (w s) -> b w 1", "max", s=self.size)
        x = jnp.pad(x, ((0, 0), (1, 1), (0, 0)))
        # One matrix product: a convolution by weights of each task's own is
        # slow, see `nets/conv.py`.
        x = jnp.concatenate([x[:, :-2], x[:, 1:-1], x[:, 2:]], axis=-1)
        x = nn.gelu(nn.Dense(self.width, name="dense")(x))
        lowest = jnp.finfo(x.dtype).min
        x = jnp.max(x, axis=1, initial=lowest, where=full)
        x = jnp.where(full.any(axis=1), x, 0)
        zeros = nn.initializers.zeros
        return nn.Dense(features, kernel_init=zeros, name="dense_back")(x)
