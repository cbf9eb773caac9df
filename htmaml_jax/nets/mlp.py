"""Fully connected networks, and the linear head that all bodies share."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax


class DenseBody(nn.Module):
    """Hidden layers with ReLU.

    Attributes:
      width: units of every layer.
      layers: number of layers.
    """

    width: int = 40
    layers: int = 2

    @nn.compact
    def __call__(self, inputs: jax.Array, *_: Any) -> jax.Array:
        """Maps [B, F] to features [B, width]; the rest is for other bodies."""
        x = inputs
        for i in range(self.layers):
            x = nn.relu(nn.Dense(self.width, name=f"dense{i}")(x))
        return x


class Headed(nn.Module):
    """A body and a linear head.

    Attributes:
      body: inputs [B, ...] to features [B, F].
      columns: class slots, or numbers to predict.
      zero_head: whether the head starts at zero, as where columns are class
        slots that must not differ; else it is drawn.
    """

    body: nn.Module
    columns: int
    zero_head: bool = True

    @nn.compact
    def __call__(
        self,
        inputs: jax.Array,
        mask: jax.Array | None = None,
        stored: bool = False,
    ) -> jax.Array:
        """Maps [B, ...] to outputs [B, columns]."""
        # Outputs and what follows them keep the precision of the parameters.
        features = self.body(inputs, mask, stored).astype(inputs.dtype)
        init = nn.initializers.zeros
        if not self.zero_head:
            init = nn.initializers.lecun_normal()
        return nn.Dense(self.columns, kernel_init=init, name="head")(features)
