"""The table of presets, and building a Learner from a config."""

from __future__ import annotations

from typing import Any

import jax

from htmaml_jax.hyper import rules
from htmaml_jax.learner import Learner
from htmaml_jax.nets.bert import Bert
from htmaml_jax.one_by_one import OneByOne
from htmaml_jax.presets import PRESETS

__all__ = ["PRESETS", "build", "describe", "sizes"]


def build(
    config: Any,
    way: int,
    transductive: bool = False,
    known: int = 0,
    bert: Bert | None = None,
) -> Learner:
    """Composes the Learner that a config describes; see `Slots`.

    Returns:
      A Learner; where training showed one structure at a time, more are asked
      for and there is something to adapt, one that adapts to each alone.
    """
    adapts = config.inner.steps or config.hyper.kind == "generator"
    one = config.net.output == "voxels" and config.data.way == 1
    made = OneByOne if one and adapts and way > 1 else Learner
    return made(config, way, transductive, known, bert)


def sizes(meta: Any) -> dict[str, int]:
    """Counts the numbers in base, hyper, embed, inner, and joint."""
    return {
        group: sum(x.size for x in jax.tree.leaves(tree))
        for group, tree in meta.items()
    }


def describe(learner: Learner, meta: Any) -> str:
    """Returns the table of transformed parameters for the start-up log."""
    lines = learner.lines(meta)
    return rules.table(lines) if lines else "no parameter is transformed"
