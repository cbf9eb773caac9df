"""Task embedding from volumes whose targets are masks of a structure."""

from __future__ import annotations

import einops
import flax.linen as nn
import jax
import jax.numpy as jnp

from htmaml_jax.embed.task import TaskEmbedding, Tree
from htmaml_jax.episode import Batch


class VolumeEncoder(nn.Module):
    """Pools features of the support set inside and outside the structure.

    Masked average pooling, as in SG-One (Zhang et al., arXiv 1810.09091, eq.
    1), gives a prototype of the foreground and one of the background; all
    support volumes count the same. Labels enter through the pooling alone.

    Attributes:
      dim: width D of the tokens.
      body: an encoder of its own, inputs [S, D, H, W, C] to features [S, d,
        h, w, F]; None if it is given the features of another network.
      blind: pool over all voxels whatever their labels (MMAML, Vuorio et
        al., 2019); tokens are then zero.
      clusters: leaves of a tree of soft clusters behind the summary; 0: none.
      reconstruct: also learn to tell the prototypes from their tokens.
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
        way: int = 1,
        features: jax.Array | None = None,
        extra: jax.Array | None = None,
    ) -> TaskEmbedding:
        """Embeds a support set of volumes and masks [S, D, H, W].

        `way` is for other encoders; `extra` [E] are further numbers for the
        summary. Tokens are those of foreground and background.
        """
        if self.body is not None:
            features = self.body(support.inputs)
        inside = shrink(support.targets, features)[..., None]
        share = support.mask / jnp.maximum(jnp.sum(support.mask), 1)

        def pool(x, weight):
            total = jnp.maximum(jnp.sum(weight, (1, 2, 3)), 1e-3)
            return share @ (jnp.sum(weight * x, (1, 2, 3)) / total)

        if self.blind:
            mean = pool(features, jnp.ones_like(inside))
            summary = nn.relu(nn.Dense(self.dim, name="project")(mean))
            summary = Tree(self.clusters, name="tree")(summary)
            tokens = jnp.zeros((2, self.dim))
            return TaskEmbedding(tokens, summary, jnp.ones(2, bool))
        weights = inside, 1 - inside
        means = [pool(features, w) for w in weights]
        # The small constant keeps the root's derivative finite at 0.
        spreads = [
            jnp.sqrt(pool((features - m) ** 2, w) + 1e-6)
            for m, w in zip(means, weights, strict=True)
        ]
        size = share @ jnp.log(jnp.mean(inside, (1, 2, 3)) + 1e-4)
        prototypes = jnp.stack(means)
        summary = [*means, *spreads, means[0] - means[1], size / 5]
        summary = jnp.concatenate(
            summary if extra is None else [*summary, extra]
        )
        tokens = jnp.concatenate([prototypes, jnp.stack(spreads)], axis=-1)
        # Which of both a token is of, is told.
        tokens = jnp.concatenate([tokens, jnp.eye(2)], axis=-1)
        tokens = nn.LayerNorm(name="token_norm")(
            nn.Dense(self.dim, name="token")(tokens)
        )
        summary = nn.LayerNorm(name="summary_norm")(
            nn.Dense(self.dim, name="summary_token")(summary)
        )
        summary = Tree(self.clusters, name="tree")(summary)
        loss = 0.0
        if self.reconstruct:
            guess = nn.Dense(prototypes.shape[-1], name="decode")(tokens)
            apart = guess - jax.lax.stop_gradient(prototypes)
            loss = jnp.mean(apart**2)
        return TaskEmbedding(tokens, summary, jnp.ones(2, bool), loss)


def shrink(masks: jax.Array, features: jax.Array) -> jax.Array:
    """Averages masks [S, D, H, W] to the grid of features [S, d, h, w, F].

    Sides must be multiples of those of the features.
    """
    i, j, k = (
        big // small
        for big, small in zip(masks.shape[1:], features.shape[1:4], strict=True)
    )
    return einops.reduce(
        masks.astype(features.dtype),
        "s (d i) (h j) (w k) -> s d h w",
        "mean",
        i=i,
        j=j,
        k=k,
    )
