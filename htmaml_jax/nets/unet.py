"""A small 3-D U-Net for segmentation."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from htmaml_jax.nets.conv import Conv, max_pool
from htmaml_jax.nets.norm import GroupNorm


class UNet(nn.Module):
    """U-Net (Ronneberger et al., 2015; in 3-D: Cicek et al., 2016).

    Attributes:
      base: channels of the first level; each further level has twice as many.
      levels: number of resolutions; every side of the input must be a
        multiple of 2**(levels - 1).
      classes: channels of the output.
      groups: groups of the norm layers, at most.
      lowering: see `htmaml_jax.nets.conv.conv`.
      dtype: of the computation; that of the inputs if None.
    """

    base: int = 8
    levels: int = 3
    classes: int = 2
    groups: int = 8
    lowering: str = "auto"
    dtype: Any = None

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Maps [B, D, H, W, C] to logits [B, D, H, W, classes]."""
        x, skips = inputs, []
        for level in range(self.levels):
            x = max_pool(x) if level else x
            x = self._block(x, self.base * 2**level, f"down{level}")
            skips.append(x)
        for level in reversed(range(self.levels - 1)):
            for axis in (1, 2, 3):
                x = jnp.repeat(x, 2, axis)
            x = jnp.concatenate([skips[level], x], -1)
            x = self._block(x, self.base * 2**level, f"up{level}")
        return self._conv(self.classes, (1, 1, 1), "head")(x)

    def _conv(self, features, window, name):
        return Conv(
            features,
            window,
            lowering=self.lowering,
            dtype=self.dtype,
            name=name,
        )

    def _block(self, x, features, name):
        for i in range(2):
            x = self._conv(features, (3, 3, 3), f"{name}_conv{i}")(x)
            groups = min(self.groups, features)
            x = nn.relu(GroupNorm(groups, name=f"{name}_norm{i}")(x))
        return x
