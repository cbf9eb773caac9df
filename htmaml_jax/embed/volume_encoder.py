"""Task embedding from volumes whose targets are masks of structures."""

from __future__ import annotations

import einops
import flax.linen as nn
import jax
import jax.numpy as jnp

from htmaml_jax.embed.task import TaskEmbedding, Tree
from htmaml_jax.episode import Batch


class VolumeEncoder(nn.Module):
    """Pools features of the support set inside and outside structures.

    Masked average pooling, as in SG-One (Zhang et al., arXiv 1810.09091, eq.
    1), gives a prototype of each structure and one of the background; all
    support volumes count the same. Labels enter through the pooling alone,
    so that renaming structures permutes their tokens and leaves the summary
    as it was.

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
        """Embeds a support set of volumes, targets [S, D, H, W] in 0 to N.

        Args:
          support: the volumes.
          way: structures N.
          features: [S, d, h, w, F] of another network, if this one has no
            body.
          extra: [E] further numbers for the summary.

        Returns:
          Tokens [N + 1, D] of the structures and, last, the background.
        """
        if self.body is not None:
            features = self.body(support.inputs)
        share = support.mask / jnp.maximum(jnp.sum(support.mask), 1)

        def pool(x, weight):
            total = jnp.maximum(jnp.sum(weight, (1, 2, 3)), 1e-3)
            return share @ (jnp.sum(weight * x, (1, 2, 3)) / total)

        valid = jnp.ones(way + 1, bool)
        if self.blind:
            mean = pool(features, jnp.ones_like(features[..., :1]))
            summary = nn.relu(nn.Dense(self.dim, name="project")(mean))
            summary = Tree(self.clusters, name="tree")(summary)
            return TaskEmbedding(jnp.zeros((way + 1, self.dim)), summary, valid)
        weights = [
            shrink(support.targets == k, features)[..., None]
            for k in (*range(1, way + 1), 0)
        ]
        prototypes = jnp.stack([pool(features, w) for w in weights])
        # The small constant keeps the root's derivative finite at 0.
        spreads = jnp.stack(
            [
                jnp.sqrt(pool((features - m) ** 2, w) + 1e-6)
                for m, w in zip(prototypes, weights, strict=True)
            ]
        )
        sizes = [
            share @ jnp.log(jnp.mean(w, (1, 2, 3)) + 1e-4) for w in weights[:-1]
        ]
        front, apart = (jnp.mean(x[:-1], 0) for x in (prototypes, spreads))
        back = prototypes[-1]
        size = jnp.mean(jnp.stack(sizes), 0) / 5
        summary = [front, back, apart, spreads[-1], front - back, size]
        summary = jnp.concatenate(
            summary if extra is None else [*summary, extra]
        )
        # Whether a token is of a structure or of the background, is told.
        kind = jnp.repeat(
            jnp.eye(2), jnp.array([way, 1]), axis=0, total_repeat_length=way + 1
        )
        tokens = jnp.concatenate([prototypes, spreads, kind], axis=-1)
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
        return TaskEmbedding(tokens, summary, valid, loss)


def both_sides(features: jax.Array, masks: jax.Array) -> jax.Array:
    """Averages features [B, d, h, w, F] inside and outside, to [B, 2 F].

    Args:
      features: of volumes.
      masks: [B, D, H, W] bool.
    """
    inside = shrink(masks, features)[..., None]
    means = [
        jnp.sum(w * features, (1, 2, 3))
        / jnp.maximum(jnp.sum(w, (1, 2, 3)), 1e-3)
        for w in (inside, 1 - inside)
    ]
    return jnp.concatenate(means, axis=-1)


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
