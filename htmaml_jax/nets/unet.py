"""3-D networks: a small U-Net for segmentation, an encoder of volumes."""

from __future__ import annotations

from typing import Any

import einops
import flax.linen as nn
import jax
import jax.numpy as jnp

from htmaml_jax.nets.conv import Conv, max_pool
from htmaml_jax.nets.norm import Norm

COARSE = "deep"  # how layers begin that answer in training alone


class UNetBody(nn.Module):
    """U-Net without its last layer.

    Ronneberger et al., 2015; in 3-D: Cicek et al., 2016.

    Attributes:
      base: channels of the first level; each further level has twice as many.
      levels: number of resolutions; every side of the input must be a
        multiple of 2**(levels - 1), with `blocks` of 2**levels.
      groups: groups of the norm layers, at most.
      lowering: see `htmaml_jax.nets.conv.conv`.
      dtype: of the computation; that of the inputs if None.
      norm: see `htmaml_jax.nets.norm`.
      blocks: work on blocks of 2x2x2 voxels, whose values are channels, and
        give every voxel of a block features of its own at the end (Shi et
        al., CVPR 2016, §2.2): an eighth of the work.
      residual: every level adds what it makes to what it is given (He et
        al., CVPR 2016), brought to as many channels by a 1x1x1 convolution.
      deep: levels on the way up but the last have features for the last
        layer, too, in the collection `levels` (deep supervision, Lee et al.,
        AISTATS 2015): `level1`, ... [B, D/s, H/s, W/s, base], where s is 2,
        4, ..., and twice that with `blocks`. Their layers are for training
        alone, and no rule for `conv_*` is for them.
    """

    base: int = 8
    levels: int = 3
    groups: int = 8
    lowering: str = "auto"
    dtype: Any = None
    norm: str = "group"
    blocks: bool = False
    residual: bool = False
    deep: bool = False

    @nn.compact
    def __call__(
        self,
        inputs: jax.Array,
        mask: jax.Array | None = None,
        stored: bool = False,
    ) -> jax.Array:
        """Maps [B, D, H, W, C] to features [B, D, H, W, base]."""
        x, skips = inputs, []
        if self.blocks:
            x = einops.rearrange(
                x, "b (d i) (h j) (w k) c -> b d h w (i j k c)", i=2, j=2, k=2
            )

        def block(x, level, name):
            width, given = self.base * 2**level, x
            for i in range(2):
                x = self._conv(width, (3, 3, 3), f"conv_{name}_{i}")(x)
                groups = min(self.groups, width)
                norm = Norm(self.norm, groups, name=f"norm_{name}_{i}")
                x = norm(x, mask, stored)
                if self.residual and i:
                    x += self._conv(width, (1, 1, 1), f"conv_{name}_by")(given)
                x = nn.relu(x)
            return x

        for level in range(self.levels):
            x = max_pool(x) if level else x
            x = block(x, level, f"down{level}")
            skips.append(x)
        for level in reversed(range(self.levels - 1)):
            for axis in (1, 2, 3):
                x = jnp.repeat(x, 2, axis)
            x = jnp.concatenate([skips[level], x], -1)
            x = block(x, level, f"up{level}")
            if self.deep and level:
                coarse = self._conv(self.base, (1, 1, 1), f"{COARSE}{level}")
                self.sow("levels", f"level{level}", coarse(x))
        if self.blocks:
            x = self._conv(8 * self.base, (1, 1, 1), "conv_voxels")(x)
            x = einops.rearrange(
                x, "b d h w (i j k c) -> b (d i) (h j) (w k) c", i=2, j=2, k=2
            )
            x = nn.relu(x)
        return x

    def _conv(self, features, window, name):
        return Conv(
            features,
            window,
            lowering=self.lowering,
            dtype=self.dtype,
            name=name,
        )


class UNet(UNetBody):
    """A U-Net with a last layer of its own.

    Attributes:
      classes: channels of the output.
    """

    classes: int = 2

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Maps [B, D, H, W, C] to logits [B, D, H, W, classes]."""
        x = super().__call__(inputs)
        return self._conv(self.classes, (1, 1, 1), "head")(x)


class VolumeBody(nn.Module):
    """Strided 3-D convolutions: an encoder that is small beside a U-Net.

    Attributes:
      width: channels of every block.
      blocks: how often the volume is halved.
      lowering: see `htmaml_jax.nets.conv.conv`.
    """

    width: int = 16
    blocks: int = 2
    lowering: str = "auto"

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Maps [B, D, H, W, C] to features [B, d, h, w, width]."""
        x = inputs
        for i in range(self.blocks):
            x = Conv(
                self.width,
                (3, 3, 3),
                (2, 2, 2),
                lowering=self.lowering,
                name=f"conv{i}",
            )(x)
            x = nn.relu(Norm("group", name=f"norm{i}")(x, None, False))
        return x
