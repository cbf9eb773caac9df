"""The generator: parameter tokens read task tokens and become transforms."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from htmaml_jax.embed.task import TaskEmbedding
from htmaml_jax.hyper import families
from htmaml_jax.hyper.rules import Line
from htmaml_jax.nets.transformer import Block

# What is the same for parameters of any network: how task tokens are read.
# Learned vectors and heads of single parameters are not.
TRUNK = r"block\d+|hidden\d+|norm|read_classes|read_summary"


class Generator(nn.Module):
    """Transforms base parameters for a task.

    Task tokens: one per class or example, one for the task. Trunk
    "transformer": parameter tokens, one per transformed parameter (a learned
    vector each, which stands for layer position and module type), read them
    through a few blocks; then each is decoded by its family. Trunk "mlp":
    every family decodes the same vector, an MLP of the task's summary, as in
    MMAML, KML, CNAPs or HSML. The family "rows" decodes tokens of slots, of
    classes or structures; where there are none, the task's. No token carries
    the index of a slot.

    Attributes:
      lines: one per leaf of the parameters, see `hyper.rules.assign`.
      trunk: "transformer" or "mlp".
      slots: whether the first task tokens are those of the head's columns.
      dim: token width D.
      layers: transformer blocks, or hidden layers.
      heads: attention heads.
      dropout: rate on the residual branches.
      scale: size of the tokens that families decode after the transformer.
        Adam moves a
        zero-initialised head by its learning rate per weight, whatever the
        gradient; D tokens of size 1 would then move a base weight by many
        times its own size within a few updates.
    """

    lines: tuple[Line, ...]
    trunk: str = "transformer"
    slots: bool = True
    dim: int = 64
    layers: int = 2
    heads: int = 2
    dropout: float = 0.0
    scale: float = 0.1

    @nn.compact
    def __call__(
        self, task: TaskEmbedding, params: Any, deterministic: bool = True
    ) -> Any:
        """Maps a task embedding and parameters to parameters."""
        moved = [x for x in self.lines if x.family not in ("identity", "rows")]
        read = self._transformer if self.trunk == "transformer" else self._mlp
        tokens, whole, parts = read(task, len(moved), deterministic)
        position = {x.path: i for i, x in enumerate(moved)}
        leaves, tree = jax.tree.flatten(params)
        out = []
        for line, leaf in zip(self.lines, leaves, strict=True):
            name = line.path.replace("/", "_")
            family = families.make(line.family, name)
            if family is None:
                out.append(leaf)
            elif line.family == "rows":
                mine = tokens[: leaf.shape[-1]] if self.slots else whole[None]
                out.append(family(mine, leaf))
            else:
                out.append(family(parts[position[line.path]], leaf))
        return jax.tree.unflatten(tree, out)

    def _transformer(self, task, count, deterministic):
        """Returns task tokens [M, D], summary [D], parameter tokens [P, D]."""
        many = task.tokens.shape[0]
        to_width = nn.Dense(self.dim, name="read_classes")
        classes = to_width(task.tokens)
        summary = nn.Dense(self.dim, name="read_summary")(task.summary)
        places = self.param(
            "places", nn.initializers.normal(1.0), (count, self.dim)
        )
        tokens = jnp.concatenate([classes, summary[None], places + summary])
        valid = jnp.concatenate([task.valid, jnp.ones(1 + count, bool)])
        for i in range(self.layers):
            block = Block(self.heads, self.dropout, name=f"block{i}")
            tokens = block(tokens, valid, deterministic)
        tokens = self.scale * nn.LayerNorm(name="norm")(tokens)
        return tokens[:many], tokens[many], tokens[many + 1 :]

    def _mlp(self, task, count, deterministic):
        """Returns the same; dropout is left out."""
        layers = [
            nn.Dense(self.dim, name=f"hidden{i}") for i in range(self.layers)
        ]
        to_width = nn.Dense(self.dim, name="read_classes")

        def through(x):
            for layer in layers:
                x = nn.relu(layer(x))
            return x

        whole = through(task.summary)
        # What a class token adds to what the task says.
        tokens = nn.relu(to_width(task.tokens) + whole)
        return tokens, whole, [whole] * count
