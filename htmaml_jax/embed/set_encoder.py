"""Task embedding from a support set whose labels are classes."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from htmaml_jax.embed.task import TaskEmbedding, Tree
from htmaml_jax.episode import Batch, one_hot


class SetEncoder(nn.Module):
    """Pools features of the support set by class, then over classes.

    Labels enter through the pooling alone, so that renaming classes permutes
    the class tokens and leaves the summary as it was.

    Attributes:
      dim: width D of the tokens.
      body: an encoder of its own, inputs [S, ...] to features [S, F]; None
        if it is given the features of another network.
      blind: pool over all examples whatever their labels (MMAML, Vuorio et
        al., 2019); class tokens are then zero.
      clusters: leaves of a tree of soft clusters behind the summary; 0: none.
      reconstruct: also learn to tell the prototypes from the class tokens
        (the autoencoder of HSML and ARML).
    """

    dim: int = 64
    body: nn.Module | None = None
    blind: bool = False
    clusters: int = 0
    reconstruct: bool = False

    @nn.compact
    def __call__(
        self,
        support: Batch,
        way: int,
        features: jax.Array | None = None,
        extra: jax.Array | None = None,
    ) -> TaskEmbedding:
        """Embeds a support set.

        Args:
          support: inputs [S, ...].
          way: class slots N.
          features: [S, F] of another network, if this one has no body.
          extra: [E] further numbers for the summary.
        """
        if self.body is not None:
            features = self.body(support.inputs, support.mask)
        features = nn.Dense(self.dim, name="project")(features)
        members = one_hot(support, way)
        valid = jnp.sum(members, axis=0) > 0
        share = support.mask / jnp.maximum(jnp.sum(support.mask), 1)
        if self.blind:
            summary = nn.relu(share @ features)
            return TaskEmbedding(jnp.zeros((way, self.dim)), summary, valid)
        count = jnp.sum(members, axis=0)[:, None]
        prototypes = members.T @ features / jnp.maximum(count, 1)
        weight = valid[:, None] / jnp.maximum(jnp.sum(valid), 1)
        mean = jnp.sum(weight * prototypes, axis=0)
        centred = (prototypes - mean) * valid[:, None]
        # The small constant keeps the root's derivative finite at 0.
        spread = jnp.sqrt(jnp.sum(weight * centred**2, axis=0) + 1e-6)
        # Whole prototypes, whatever an example weighs: a window of a long clip
        # has a part of its weight.
        inner = features - jax.nn.one_hot(support.targets, way) @ prototypes
        within = jnp.sqrt(share @ inner**2 + 1e-6)
        summary = [mean, spread, within]
        summary = jnp.concatenate(
            summary if extra is None else [*summary, extra]
        )
        classes = nn.LayerNorm(name="class_norm")(
            nn.Dense(self.dim, name="class_token")(centred)
        )
        summary = nn.LayerNorm(name="summary_norm")(
            nn.Dense(self.dim, name="summary_token")(summary)
        )
        summary = Tree(self.clusters, name="tree")(summary)
        loss = 0.0
        if self.reconstruct:
            guess = nn.Dense(self.dim, name="decode")(classes)
            apart = guess - jax.lax.stop_gradient(centred)
            loss = jnp.sum(weight * apart**2) / self.dim
        return TaskEmbedding(classes, summary, valid, loss)
