"""Task embedding from a labelled support set."""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from htmaml_jax.episode import Batch, one_hot


class TaskEmbedding(NamedTuple):
    """What a generator may know of a task.

    Attributes:
      classes: [N, D] one token per class slot; carries no slot index.
      summary: [D] one token for the whole task.
      valid: [N] bool, False for slots without examples.
    """

    classes: jax.Array
    summary: jax.Array
    valid: jax.Array


class SetEncoder(nn.Module):
    """Pools features of the support set by class, then over classes.

    Labels enter through the pooling alone, so that renaming classes permutes
    the class tokens and leaves the summary as it was.

    Attributes:
      dim: width D of the tokens.
      body: an encoder of its own, inputs [S, ...] to features [S, F]; None
        if it is given the features of another network.
    """

    dim: int = 64
    body: nn.Module | None = None

    @nn.compact
    def __call__(
        self, support: Batch, way: int, features: jax.Array | None = None
    ) -> TaskEmbedding:
        """Embeds a support set of [S, ...] inputs with N = `way` slots."""
        if self.body is not None:
            features = self.body(support.inputs, support.mask)
        features = nn.Dense(self.dim, name="project")(features)
        members = one_hot(support, way)
        count = jnp.sum(members, axis=0)[:, None]
        valid = count[:, 0] > 0
        prototypes = members.T @ features / jnp.maximum(count, 1)
        weight = valid[:, None] / jnp.maximum(jnp.sum(valid), 1)
        mean = jnp.sum(weight * prototypes, axis=0)
        centred = (prototypes - mean) * valid[:, None]
        # The small constant keeps the root's derivative finite at 0.
        spread = jnp.sqrt(jnp.sum(weight * centred**2, axis=0) + 1e-6)
        inner = features - members @ prototypes
        share = support.mask / jnp.maximum(jnp.sum(support.mask), 1)
        within = jnp.sqrt(share @ inner**2 + 1e-6)
        summary = jnp.concatenate([mean, spread, within])
        classes = nn.LayerNorm(name="class_norm")(
            nn.Dense(self.dim, name="class_token")(centred)
        )
        summary = nn.LayerNorm(name="summary_norm")(
            nn.Dense(self.dim, name="summary_token")(summary)
        )
        return TaskEmbedding(classes, summary, valid)
