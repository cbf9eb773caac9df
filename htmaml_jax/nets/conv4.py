"""The convolutional network of the few-shot literature."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from htmaml_jax.nets.conv import Conv, max_pool
from htmaml_jax.nets.norm import Norm


class ConvBody(nn.Module):
    """Blocks of 3x3 convolution, norm and ReLU, each halving the map.

    Attributes:
      width: channels of the first two blocks.
      blocks: number of blocks; the input must be at least 2**blocks wide.
      down: how a block halves its map: "pool" after it, "stride" in its
        convolution (a quarter of the work), or "stem", which strides in the
        first block and pools in the others.
      norm: see `htmaml_jax.nets.norm`.
      grow: how many times as many channels each block from the third on has;
        its map is small, so that they cost little.
      pool: "flat" keeps the last map, "mean" averages it over space,
        "columns" over its columns alone: time, where the rows are pitches.
      length: what all feature vectors are scaled to, so that distances and
        step sizes mean the same whatever was learned before (Wang et al.,
        arXiv 1911.04623, of nearest class means); 0 leaves them.
      lowering: see `htmaml_jax.nets.conv.conv`.
      dtype: of the computation; parameters keep theirs.
    """

    width: int = 32
    blocks: int = 4
    down: str = "pool"
    norm: str = "group"
    grow: int = 1
    pool: str = "flat"
    length: float = 0.0
    lowering: str = "auto"
    dtype: Any = None

    @nn.compact
    def __call__(
        self,
        inputs: jax.Array,
        mask: jax.Array | None = None,
        stored: bool = False,
        change: Callable[[int, jax.Array], jax.Array] | None = None,
    ) -> jax.Array:
        """Maps [B, H, W, C] to features [B, F].

        `change` maps (block, features) to features, behind each norm and
        ReLU: what meta-training does to channels.
        """
        x = inputs
        for i in range(self.blocks):
            strided = self.down == "stride" or (self.down == "stem" and i == 0)
            strides = (2, 2) if strided else (1, 1)
            x = Conv(
                self.width * self.grow ** max(i - 1, 0),
                strides=strides,
                lowering=self.lowering,
                dtype=self.dtype,
                name=f"conv{i}",
            )(x)
            x = nn.relu(Norm(self.norm, name=f"norm{i}")(x, mask, stored))
            x = x if change is None else change(i, x)
            x = x if strided else max_pool(x)
        if self.pool == "mean":
            x = jnp.mean(x, axis=(1, 2))
        if self.pool == "columns":
            x = jnp.mean(x, axis=2)
        x = x.reshape(x.shape[0], -1)
        if not self.length:
            return x
        exact = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        squares = jnp.sum(exact**2, axis=1, keepdims=True)
        # Of nothing but zeros the length cannot be changed.
        return exact * (self.length * jax.lax.rsqrt(squares + 1e-6))
