"""Losses and metrics over masked examples and class slots."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from htmaml_jax.episode import Batch

# Far below any logit, yet finite: -inf would make NaN gradients.
_NEVER = -1e9


def only_present(logits: jax.Array, classes: jax.Array) -> jax.Array:
    """Rules out class slots that have no support: logits [B, N], [N] bool."""
    return jnp.where(classes, logits, _NEVER)


def cross_entropy(logits: jax.Array, batch: Batch) -> jax.Array:
    """Averages the cross-entropy of logits [B, N] over real examples."""
    each = -jnp.take_along_axis(
        jax.nn.log_softmax(logits), batch.targets[:, None], axis=1
    )[:, 0]
    return jnp.sum(each * batch.mask) / jnp.maximum(jnp.sum(batch.mask), 1)


def accuracy(logits: jax.Array, batch: Batch) -> jax.Array:
    """Returns the share of real examples whose largest logit is right."""
    right = jnp.argmax(logits, axis=1) == batch.targets
    return jnp.sum(right * batch.mask) / jnp.maximum(jnp.sum(batch.mask), 1)
