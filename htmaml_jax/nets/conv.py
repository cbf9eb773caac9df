"""Convolution and pooling that stay fast when every task has its own weights.

Under `vmap` over tasks each convolution has one kernel per task, which XLA
lowers to a slow grouped convolution. Patches and one matrix product have the
same numerics and batch well, in second derivatives too.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

# What "auto" means on each backend in 1, 2 and 3 dimensions. On CPU patches
# measured 10 times faster than lax (benchmarks/speed.py W1), and in 3-D blocks
# 1.6 times faster than patches (W3); in 2-D blocks gained nothing. On the
# others nothing was measured yet: they get what does not become a grouped
# convolution.
AUTO = {
    "cpu": ("patches", "patches", "blocks"),
    "gpu": ("patches", "patches", "patches"),
    "tpu": ("patches", "patches", "patches"),
}
LOWERINGS = ("auto", "patches", "blocks", "lax")


def resolve(lowering: str, dimensions: int = 2) -> str:
    """Returns the lowering that a name means on the default backend."""
    if lowering != "auto":
        return lowering
    table = AUTO.get(jax.default_backend(), AUTO["cpu"])
    return table[min(dimensions, len(table)) - 1]


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Returns the (low, high) padding of `lax.conv`'s SAME rule."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def conv(
    inputs: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: str = "SAME",
    lowering: str = "auto",
) -> jax.Array:
    """Convolves as `lax.conv_general_dilated` in 1, 2, 3 or more dimensions.

    Args:
      inputs: [B, *space, Cin].
      kernel: [*window, Cin, Cout].
      strides: one per spatial axis.
      padding: "SAME" or "VALID".
      lowering: "patches", "blocks", "lax", or "auto" for the backend's entry
        in `AUTO`.

    Returns:
      [B, *space', Cout].
    """
    if padding not in ("SAME", "VALID"):
        raise ValueError(f"padding is SAME or VALID, not {padding!r}")
    forms = {"patches": _by_patches, "blocks": _by_blocks, "lax": _by_lax}
    form = forms[resolve(lowering, len(strides))]
    return form(inputs, kernel, tuple(strides), padding)


def _by_lax(inputs, kernel, strides, padding):
    space = "DHW"[-len(strides) :]
    numbers = (f"N{space}C", f"{space}IO", f"N{space}C")
    return jax.lax.conv_general_dilated(
        inputs, kernel, strides, padding, dimension_numbers=numbers
    )


def _by_patches(inputs, kernel, strides, padding):
    window = kernel.shape[:-2]
    if padding == "SAME":
        pads = [
            same_padding(n, k, s)
            for n, k, s in zip(inputs.shape[1:-1], window, strides, strict=True)
        ]
        inputs = jnp.pad(inputs, [(0, 0), *pads, (0, 0)])
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


def _by_blocks(inputs, kernel, strides, padding):
    """Makes two outputs along every axis at a time, where that is possible.

    In d dimensions two neighbouring outputs per axis read 4**d inputs, and
    2**d such outputs as columns of one product share them: patches hold 2**d
    numbers per output and channel instead of 3**d, and the product is 2**d
    times as wide, which few channels need. It multiplies with zeros for that,
    (4 / 3)**d operations for one.
    """
    dims, (cin, cout) = len(strides), kernel.shape[-2:]
    space = inputs.shape[1:-1]
    even = all(n % 2 == 0 for n in space)
    window = kernel.shape[:-2]
    fits = set(window) == {3} and set(strides) == {1} and padding == "SAME"
    if not (fits and even):
        return _by_patches(inputs, kernel, strides, padding)
    half = [n // 2 for n in space]
    # Every pair of neighbours becomes one place of 2**d as many channels.
    x = jnp.pad(inputs, [(0, 0), *[(1, 1)] * dims, (0, 0)])
    x = x.reshape(-1, *itertools.chain(*((n + 1, 2) for n in half)), cin)
    x = x.transpose(0, *_unzipped(1, dims), 2 * dims + 1)
    x = x.reshape(-1, *(n + 1 for n in half), 2**dims * cin)
    slices = []
    for offset in itertools.product((0, 1), repeat=dims):
        where = (slice(o, o + n) for o, n in zip(offset, half, strict=True))
        slices.append(x[(slice(None), *where)])
    patches = jnp.concatenate(slices, axis=-1)
    # The kernel of 4 per axis and 2 shifts of each, shifts before Cout.
    for axis in range(dims):
        pads = [[(0, 0)] * kernel.ndim for _ in range(2)]
        pads[0][axis], pads[1][axis] = (0, 1), (1, 0)
        kernel = jnp.stack([jnp.pad(kernel, p) for p in pads], axis=-2)
    kernel = kernel.reshape(*(2,) * 2 * dims, *kernel.shape[dims:])
    rest = range(2 * dims, kernel.ndim)
    kernel = kernel.transpose(*_unzipped(0, dims), *rest)
    out = patches @ kernel.reshape(-1, 2**dims * cout)
    out = out.reshape(-1, *half, *(2,) * dims, cout)
    pairs = itertools.chain(*((1 + i, 1 + dims + i) for i in range(dims)))
    out = out.transpose(0, *pairs, 2 * dims + 1)
    return out.reshape(-1, *space, cout)


def _unzipped(first, dims):
    """Lists 2 * dims axes: every second one, then those between them."""
    end = first + 2 * dims
    return [*range(first, end, 2), *range(first + 1, end, 2)]


def max_pool(
    inputs: jax.Array, window: int = 2, padding: str = "VALID"
) -> jax.Array:
    """Takes the maximum of windows of [B, *space, C], stride = window.

    With "VALID" an axis shorter than the window stays as it is.

    `jnp.where(u >= v, u, v)` instead of `jnp.max`: the gradient of a maximum
    over a reshaped axis compares x == max(x) after x was recomputed with
    other rounding, which gives NaN second derivatives on XLA CPU.
    """
    for axis in range(1, inputs.ndim - 1):
        size = inputs.shape[axis]
        if size < window and padding == "VALID":
            continue
        if padding == "SAME":
            pads = [(0, 0)] * inputs.ndim
            pads[axis] = same_padding(size, window, window)
            lowest = jnp.finfo(inputs.dtype).min
            inputs = jnp.pad(inputs, pads, constant_values=lowest)
            size = inputs.shape[axis]
        size = size // window * window
        largest = jax.lax.slice_in_dim(inputs, 0, size, window, axis)
        for offset in range(1, window):
            other = jax.lax.slice_in_dim(inputs, offset, size, window, axis)
            largest = jnp.where(largest >= other, largest, other)
        inputs = largest
    return inputs


class Conv(nn.Module):
    """Convolution layer with the parameters of `flax.linen.Conv`.

    Attributes:
      features: channels Cout.
      window: size of the kernel, one number per spatial axis.
      strides: the same; all 1 if None.
      padding: "SAME" or "VALID".
      use_bias: whether to add a bias.
      lowering: see `conv`.
      dtype: of the computation; that of the inputs if None.
    """

    features: int
    window: Sequence[int] = (3, 3)
    strides: Sequence[int] | None = None
    padding: str = "SAME"
    use_bias: bool = True
    lowering: str = "auto"
    dtype: Any = None

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Maps [B, *space, Cin] to [B, *space', features]."""
        kernel = self.param(
            "kernel",
            nn.initializers.he_normal(),
            (*self.window, inputs.shape[-1], self.features),
        )
        bias = None
        if self.use_bias:
            zeros = nn.initializers.zeros
            bias = self.param("bias", zeros, (self.features,))
        inputs, kernel, bias = nn.dtypes.promote_dtype(
            inputs, kernel, bias, dtype=self.dtype
        )
        strides = self.strides or (1,) * len(self.window)
        outputs = conv(inputs, kernel, strides, self.padding, self.lowering)
        return outputs if bias is None else outputs + bias
