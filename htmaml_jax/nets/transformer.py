"""A small transformer, shared by encoders and the generator."""

from __future__ import annotations

import flax.linen as nn
import jax


class Block(nn.Module):
    """A pre-norm transformer block.

    Attributes:
      heads: attention heads.
      dropout: rate on the residual branches.
    """

    heads: int
    dropout: float = 0.0

    @nn.compact
    def __call__(
        self, tokens: jax.Array, valid: jax.Array, deterministic: bool = True
    ) -> jax.Array:
        """Lets tokens [P, D] read each other where `valid` [P]."""
        width = tokens.shape[-1]
        drop = nn.Dropout(self.dropout, deterministic=deterministic)
        x = nn.LayerNorm()(tokens)
        x = nn.MultiHeadDotProductAttention(num_heads=self.heads)(
            x, x, mask=valid[None, None, :]
        )
        tokens = tokens + drop(x)
        x = nn.Dense(2 * width)(nn.LayerNorm()(tokens))
        x = nn.Dense(width)(nn.gelu(x))
        return tokens + drop(x)
