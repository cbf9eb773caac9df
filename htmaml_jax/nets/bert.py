"""Transformer encoders of sentences: BERT, and XLM-R, which is alike."""

from __future__ import annotations

import einops
import flax.linen as nn
import jax
import jax.numpy as jnp

from htmaml_jax.nets.mlp import VectorBody

POOLS = ("mean", "cls", "max")


class Bert(nn.Module):
    """BERT (Devlin et al., 2019) with pooling, for one vector per text.

    XLM-R (Conneau et al., 2020) is the same network: it counts positions
    from behind its padding id and has one token type. Every linear map is a
    matrix of its own, so that rules on paths may transform any of them.

    Attributes:
      vocabulary: token ids.
      positions: rows of the table of positions.
      types: rows of the table of token types, of which the first is used.
      width: numbers per token D.
      layers: number of blocks.
      heads: attention heads.
      hidden: width inside the feed-forward part.
      padding: the token id that stands for nothing.
      offset: position of the first token.
      epsilon: of the layer norms.
      pool: "mean" over tokens, "cls" for the first, "max".
      dense: width of a tanh layer behind the pooling; 0 for none (LaBSE).
      unit: scale the result to length 1.
    """

    vocabulary: int
    positions: int
    types: int = 2
    width: int = 384
    layers: int = 6
    heads: int = 12
    hidden: int = 1536
    padding: int = 0
    offset: int = 0
    epsilon: float = 1e-12
    pool: str = "mean"
    dense: int = 0
    unit: bool = True

    @nn.compact
    def __call__(self, tokens: jax.Array, *_) -> jax.Array:
        """Maps token ids [B, L], padded at the end, to vectors [B, F]."""
        valid = tokens != self.padding
        table = nn.Embed(self.vocabulary, self.width, name="words")
        place = self.offset + jnp.arange(tokens.shape[1])
        x = table(tokens)
        x += nn.Embed(self.positions, self.width, name="places")(place)
        x += nn.Embed(self.types, self.width, name="types")(
            jnp.zeros(1, jnp.int32)
        )
        x = self._norm("norm")(x)
        for i in range(self.layers):
            x = self._block(x, valid, f"layer{i}_")
        x = self._pooled(x, valid)
        if self.dense:
            x = jnp.tanh(nn.Dense(self.dense, name="dense")(x))
        if self.unit:
            square = jnp.sum(x**2, axis=-1, keepdims=True)
            # Inside the root, whose slope at 0 is not finite.
            x = x / jnp.sqrt(jnp.maximum(square, 1e-24))
        return x

    def _norm(self, name):
        return nn.LayerNorm(epsilon=self.epsilon, name=name)

    def _block(self, x, valid, name):
        def split(part):
            y = nn.Dense(self.width, name=f"{name}{part}")(x)
            return einops.rearrange(y, "b l (h d) -> b h l d", h=self.heads)

        query, key, value = (split(p) for p in ("query", "key", "value"))
        score = query @ key.swapaxes(-1, -2) / jnp.sqrt(query.shape[-1])
        score = jnp.where(valid[:, None, None, :], score, -1e9)
        y = jax.nn.softmax(score) @ value
        y = einops.rearrange(y, "b h l d -> b l (h d)")
        y = nn.Dense(self.width, name=f"{name}attended")(y)
        x = self._norm(f"{name}norm0")(x + y)
        y = nn.Dense(self.hidden, name=f"{name}into")(x)
        y = jax.nn.gelu(y, approximate=False)
        y = nn.Dense(self.width, name=f"{name}outof")(y)
        return self._norm(f"{name}norm1")(x + y)

    def _pooled(self, x, valid):
        if self.pool == "cls":
            return x[:, 0]
        there = valid[..., None]
        if self.pool == "max":
            return jnp.max(jnp.where(there, x, -1e9), axis=1)
        count = jnp.maximum(jnp.sum(there, axis=1), 1)
        return jnp.sum(x * there, axis=1) / count


class SentenceBody(nn.Module):
    """A sentence encoder, then residual layers on its vectors.

    These start at zero, so that features start as those of `VectorBody` on
    the vectors of the frozen encoder.

    Attributes:
      encoder: the encoder, whose weights come from its folder.
      width: units inside each residual layer.
      layers: number of them.
    """

    encoder: Bert
    width: int = 128
    layers: int = 1

    @nn.compact
    def __call__(self, tokens: jax.Array, *_) -> jax.Array:
        """Maps token ids [B, L], padded at the end, to features [B, F]."""
        vectors = self.encoder(tokens)
        return VectorBody(self.width, self.layers, name="vector")(vectors)
