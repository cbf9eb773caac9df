"""Convolution and pooling that stay fast when every task has its own weights.

Under `vmap` over tasks each convolution has one kernel per task, which XLA
lowers to a slow grouped convolution. Patches and one matrix product have the
same numerics and batch well, in second derivatives too.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Returns the (low, high) padding of `lax.conv`'s SAME rule."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def conv(
    inputs: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: str = "SAME",
) -> jax.Array:
    """Convolves as `lax.conv_general_dilated`, through patches.

    Args:
      inputs: [B, *space, Cin].
      kernel: [*window, Cin, Cout].
      strides: one per spatial axis.
      padding: "SAME" or "VALID".

    Returns:
      [B, *space', Cout].
    """
    window = kernel.shape[:-2]
    space = inputs.shape[1:-1]
    if padding == "SAME":
        pads = [
            same_padding(n, k, s)
            for n, k, s in zip(space, window, strides, strict=True)
        ]
        inputs = jnp.pad(inputs, [(0, 0), *pads, (0, 0)])
    elif padding != "VALID":
        raise ValueError(f"padding is SAME or VALID, not {padding!r}")
    out = [
        (n - k) // s + 1
        for n, k, s in zip(inputs.shape[1:-1], window, strides, strict=True)
    ]
    slices = []
    for offset in itertools.product(*map(range, window)):
        where = tuple(
            slice(o, o + (n - 1) * s + 1, s)
            for o, n, s in zip(offset, out, strides, strict=True)
        )
        slices.append(inputs[(slice(None), *where)])
    patches = jnp.concatenate(slices, axis=-1)
    return patches @ kernel.reshape(-1, kernel.shape[-1])


def max_pool(inputs: jax.Array) -> jax.Array:
    """Takes the maximum of 2x2 windows of [B, H, W, C], stride 2, VALID.

    `jnp.where(u >= v, u, v)` instead of `jnp.max`: the gradient of a maximum
    over a reshaped axis compares x == max(x) after x was recomputed with
    other rounding, which gives NaN second derivatives on XLA CPU.
    """
    for axis in (1, 2):
        size = inputs.shape[axis] // 2 * 2
        u = jax.lax.slice_in_dim(inputs, 0, size, 2, axis)
        v = jax.lax.slice_in_dim(inputs, 1, size, 2, axis)
        inputs = jnp.where(u >= v, u, v)
    return inputs


class Conv(nn.Module):
    """Convolution layer with the parameters of `flax.linen.Conv`."""

    features: int
    window: Sequence[int] = (3, 3)
    strides: Sequence[int] | None = None
    padding: str = "SAME"
    use_bias: bool = True

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Maps [B, *space, Cin] to [B, *space', features]."""
        kernel = self.param(
            "kernel",
            nn.initializers.he_normal(),
            (*self.window, inputs.shape[-1], self.features),
        )
        strides = self.strides or (1,) * len(self.window)
        outputs = conv(inputs, kernel, strides, self.padding)
        if self.use_bias:
            outputs += self.param(
                "bias", nn.initializers.zeros, (self.features,)
            )
        return outputs
