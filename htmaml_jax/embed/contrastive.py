"""Contrastive self-supervision: two views of an example attract."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp


class Projected(nn.Module):
    """An encoder and the projection that the loss sees and nobody else.

    The two-layer head of SimCLR (Chen et al., ICML 2020, §4.2), dropped after
    pre-training.

    Attributes:
      body: inputs [B, ...] to features [B, F], or to maps [B, ..., F] of
        volumes, which are averaged.
      width: numbers per projection.
    """

    body: nn.Module
    width: int = 64

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Maps [B, ...] to unit vectors [B, width]."""
        x = self.body(inputs)
        x = jnp.mean(x, axis=tuple(range(1, x.ndim - 1)))
        x = nn.relu(nn.Dense(x.shape[-1], name="hidden")(x))
        x = nn.Dense(self.width, name="project")(x)
        return unit(x)


def unit(x: jax.Array) -> jax.Array:
    """Scales vectors [..., F] to length 1; the root has a slope at 0."""
    return x * jax.lax.rsqrt(jnp.sum(x**2, axis=-1, keepdims=True) + 1e-12)


def nt_xent(
    one: jax.Array,
    two: jax.Array,
    temperature: float,
    same: jax.Array | None = None,
    mask: jax.Array | None = None,
) -> jax.Array:
    """Averages the normalised temperature-scaled cross-entropy, NT-Xent.

    Chen et al., ICML 2020, eq. 1: the partner of a view among all other views
    of the batch.

    Args:
      one, two: [B, F] unit vectors; row i of both is of the same example.
      temperature: divides cosines.
      same: [B, B] bool, pairs of examples that repel nothing, as they are of
        one class or one recording; by default only an example and itself.
      mask: [B], 1 for real examples; padding neither repels nor counts.
    """
    count = one.shape[0]
    both = jnp.concatenate([one, two])
    cosines = both @ both.T / temperature
    if same is None:
        same = jnp.eye(count, dtype=bool)
    if mask is None:
        mask = jnp.ones(count, cosines.dtype)
    padded = mask == 0
    same = same | padded[:, None] | padded[None, :]
    partner = jnp.roll(jnp.eye(2 * count, dtype=bool), count, axis=1)
    left_out = jnp.tile(same, (2, 2)) & ~partner
    cosines = jnp.where(left_out, -jnp.inf, cosines)
    picked = jnp.sum(jnp.where(partner, cosines, 0.0), axis=1)
    each = jax.nn.logsumexp(cosines, axis=1) - picked
    weight = jnp.tile(mask, 2)
    return jnp.sum(weight * each) / jnp.maximum(jnp.sum(weight), 1)
