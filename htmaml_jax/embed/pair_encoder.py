"""Task embedding from examples whose targets are numbers."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from htmaml_jax.embed.task import TaskEmbedding, Tree
from htmaml_jax.episode import Batch
from htmaml_jax.nets.transformer import Block


class PairEncoder(nn.Module):
    """Reads the support set as a set of pairs (input, target).

    A transformer without positions, so that the order of examples changes
    nothing; the summary is their mean.

    Attributes:
      dim: width D of the tokens.
      layers: transformer blocks.
      heads: attention heads.
      clusters: leaves of a tree of soft clusters behind the summary; 0: none.
      reconstruct: also learn to tell targets from the summary and inputs.
    """

    dim: int = 64
    layers: int = 2
    heads: int = 4
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
        """Embeds a support set of inputs [S, F] and targets [S, D].

        `way` and `features` are for other encoders; `extra` [E] are further
        numbers for the summary.
        """
        pairs = jnp.concatenate([support.inputs, support.targets], axis=-1)
        tokens = nn.Dense(self.dim, name="read")(pairs)
        tokens = tokens + nn.Dense(self.dim, name="read2")(nn.relu(tokens))
        valid = support.mask > 0
        for i in range(self.layers):
            tokens = Block(self.heads, name=f"block{i}")(tokens, valid)
        tokens = nn.LayerNorm(name="norm")(tokens)
        share = support.mask / jnp.maximum(jnp.sum(support.mask), 1)
        summary = share @ tokens
        if extra is not None:
            summary = jnp.concatenate([summary, extra])
        summary = nn.Dense(self.dim, name="summary")(summary)
        summary = Tree(self.clusters, name="tree")(summary)
        loss = 0.0
        if self.reconstruct:
            x = nn.Dense(self.dim, name="decode_input")(support.inputs)
            x = nn.relu(x + nn.Dense(self.dim, name="decode_task")(summary))
            x = nn.relu(nn.Dense(self.dim, name="decode")(x))
            width = support.targets.shape[-1]
            apart = nn.Dense(width, name="decode_target")(x) - support.targets
            loss = share @ jnp.mean(apart**2, axis=-1)
        return TaskEmbedding(tokens, summary, valid, loss)
