"""Norm layers that keep predictions inductive."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

KINDS = ("group", "instance", "support", "none")


class GroupNorm(nn.Module):
    """`flax.linen.GroupNorm` as one multiply and one add per value.

    Group Normalization (Wu and He, 2018). Statistics and affine are folded
    per example and channel before the map is touched: second derivatives
    then pass the large arrays half as often.
    """

    groups: int = 8
    epsilon: float = 1e-6

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Normalises [B, ..., C] per example and group of channels."""
        channels = inputs.shape[-1]
        each = channels // self.groups
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        space = tuple(range(1, inputs.ndim - 1))
        # Statistics of 16-bit maps are summed in 32 bits.
        exact = inputs.astype(jnp.promote_types(inputs.dtype, jnp.float32))

        def by_group(x):
            x = jnp.mean(x, axis=space).reshape(-1, self.groups, each)
            return jnp.repeat(jnp.mean(x, axis=-1), each, axis=-1)

        mean = by_group(exact)
        variance = jnp.maximum(by_group(exact**2) - mean**2, 0)
        factor = scale * jax.lax.rsqrt(variance + self.epsilon)
        shape = (inputs.shape[0], *(1,) * len(space), channels)
        offset = (bias - mean * factor).reshape(shape).astype(inputs.dtype)
        return inputs * factor.reshape(shape).astype(inputs.dtype) + offset


class Norm(nn.Module):
    """Normalises [B, ..., C] without looking at other queries.

    Attributes:
      kind: "group": per example (GroupNorm). "instance": per example and
        channel (Ulyanov et al., 2016). "support": statistics of the
        support set; the pass over the support computes and stores them in
        the collection `batch_stats`, a query pass reads them (the
        conventional batch norm of TaskNorm, Bronskill et al. 2020, §3).
        "none": scale and bias only are left out too.
      groups: number of groups for "group".
    """

    kind: str = "group"
    groups: int = 8

    @nn.compact
    def __call__(
        self, inputs: jax.Array, mask: jax.Array | None, stored: bool
    ) -> jax.Array:
        """Normalises `inputs`.

        Args:
          inputs: [B, ..., C].
          mask: [B], 0 for examples that must not enter the statistics.
          stored: read statistics instead of computing them.
        """
        if self.kind == "none":
            return inputs
        if self.kind in ("group", "instance"):
            alone = self.kind == "instance"
            groups = inputs.shape[-1] if alone else self.groups
            return GroupNorm(groups, name="group")(inputs)
        if self.kind != "support":
            raise ValueError(
                f"norm is one of {', '.join(KINDS)}, not {self.kind!r}"
            )
        if mask is not None:
            mask = mask.reshape((-1,) + (1,) * (inputs.ndim - 1)) > 0
        # Momentum 0: what is stored is the last batch, hence the support.
        norm = nn.BatchNorm(
            use_running_average=stored, momentum=0.0, dtype=inputs.dtype
        )
        return norm(inputs, mask=mask)
