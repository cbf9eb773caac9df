"""The generator: parameter tokens read task tokens and become transforms."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from htmaml_jax.embed.set_encoder import TaskEmbedding
from htmaml_jax.hyper import families
from htmaml_jax.hyper.rules import Line


class Block(nn.Module):
    """A pre-norm transformer block."""

    heads: int
    dropout: float

    @nn.compact
    def __call__(self, tokens, keys_valid, deterministic):
        """Lets tokens [P, D] read each other where `keys_valid` [P]."""
        width = tokens.shape[-1]
        drop = nn.Dropout(self.dropout, deterministic=deterministic)
        x = nn.LayerNorm()(tokens)
        x = nn.MultiHeadDotProductAttention(num_heads=self.heads)(
            x, x, mask=keys_valid[None, None, :]
        )
        tokens = tokens + drop(x)
        x = nn.Dense(2 * width)(nn.LayerNorm()(tokens))
        x = nn.Dense(width)(nn.gelu(x))
        return tokens + drop(x)


class Generator(nn.Module):
    """Transforms base parameters for a task.

    Tokens: one per class, one for the task, one per transformed parameter
    (a learned vector each, which stands for layer position and module type).
    After the trunk each parameter token is decoded by its family; class
    tokens are decoded by the family "rows". No token carries a class index.

    Attributes:
      lines: one per leaf of the parameters, see `hyper.rules.assign`.
      dim: token width D.
      layers: transformer blocks.
      heads: attention heads.
      dropout: rate on the residual branches.
      scale: size of the tokens that families decode. Adam moves a
        zero-initialised head by its learning rate per weight, whatever the
        gradient; D tokens of size 1 would then move a base weight by many
        times its own size within a few updates.
    """

    lines: tuple[Line, ...]
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
        way = task.classes.shape[0]
        to_width = nn.Dense(self.dim, name="read_classes")
        classes = to_width(task.classes)
        summary = nn.Dense(self.dim, name="read_summary")(task.summary)
        moved = [x for x in self.lines if x.family not in ("identity", "rows")]
        places = self.param(
            "places", nn.initializers.normal(1.0), (len(moved), self.dim)
        )
        tokens = jnp.concatenate([classes, summary[None], places + summary])
        valid = jnp.concatenate([task.valid, jnp.ones(1 + len(moved), bool)])
        for i in range(self.layers):
            block = Block(self.heads, self.dropout, name=f"block{i}")
            tokens = block(tokens, valid, deterministic)
        tokens = self.scale * nn.LayerNorm(name="norm")(tokens)
        position = {x.path: way + 1 + i for i, x in enumerate(moved)}
        leaves, tree = jax.tree.flatten(params)
        out = []
        for line, leaf in zip(self.lines, leaves, strict=True):
            name = line.path.replace("/", "_")
            family = families.make(line.family, name)
            if family is None:
                out.append(leaf)
            elif line.family == "rows":
                out.append(family(tokens[:way], leaf))
            else:
                out.append(family(tokens[position[line.path]], leaf))
        return jax.tree.unflatten(tree, out)
