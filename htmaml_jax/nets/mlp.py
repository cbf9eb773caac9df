"""Fully connected networks, and the linear head that all bodies share."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


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


class VectorBody(nn.Module):
    """Residual layers on vectors that another network has made.

    They start at zero, so that features start as the vectors, scaled: what a
    frozen encoder knows is where learning begins.

    Attributes:
      width: units inside each layer.
      layers: number of layers.
      scale: what vectors are multiplied with at first. With unit vectors
        and a head of prototypes, logits are then 2 scale^2 times a cosine.
    """

    width: int = 128
    layers: int = 1
    scale: float = 3.0

    @nn.compact
    def __call__(self, inputs: jax.Array, *_: Any) -> jax.Array:
        """Maps [B, F] to features [B, F]; the rest is for other bodies."""
        features = inputs.shape[-1]
        x = Scaled(self.scale, name="norm")(inputs)
        for i in range(self.layers):
            y = nn.gelu(nn.Dense(self.width, name=f"dense{i}")(x))
            back = nn.Dense(
                features,
                kernel_init=nn.initializers.zeros,
                name=f"dense{i}_back",
            )
            x = x + back(y)
        return x


class Scaled(nn.Module):
    """Multiplies and moves each feature, as norm layers do at their end."""

    size: float

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Maps [B, F] to [B, F]."""
        shape = inputs.shape[-1:]
        init = nn.initializers.constant(self.size)
        scale = self.param("scale", init, shape)
        return inputs * scale + self.param("bias", nn.initializers.zeros, shape)


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
        *more: Any,
    ) -> jax.Array:
        """Maps [B, ...] to outputs [B, columns]; `more` is for the body."""
        # Outputs and what follows them keep the precision of the parameters.
        exact = jnp.promote_types(inputs.dtype, jnp.float32)
        features = self.body(inputs, mask, stored, *more).astype(exact)
        init = nn.initializers.zeros
        if not self.zero_head:
            init = nn.initializers.lecun_normal()
        return nn.Dense(self.columns, kernel_init=init, name="head")(features)
