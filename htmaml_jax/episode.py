"""Batch and Episode: the one data type that crosses rooms."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Batch(NamedTuple):
    """Examples of one side of an episode.

    Attributes:
      inputs: [B, ...] network inputs.
      targets: [B] int32 class slots in [0, N), or [B, D, H, W] masks.
      mask: [B] float32; 1 = real, 0 = padding that must change nothing. At use
        time one of n windows of a long clip counts 1 / n.
    """

    inputs: jax.Array
    targets: jax.Array
    mask: jax.Array


class Episode(NamedTuple):
    """One few-shot task.

    Attributes:
      support: the labelled examples that a learner adapts to.
      query: the examples that it is judged on.
      index: [] int32 global index; with the seed it fixes the episode and,
        through `jax.random.fold_in`, all randomness spent on it.
      domain: [] int32 id of the domain that the task was drawn from.
      classes: [N] int32, which class of its split each slot holds: for joint
        training alone, as in a task no class has a name. None of functions.
      second: further queries of the same classes from another domain, or
        None; for training alone.
    """

    support: Batch
    query: Batch
    index: jax.Array
    domain: jax.Array
    classes: jax.Array | None = None
    second: Batch | None = None


def one_hot(batch: Batch, way: int) -> jax.Array:
    """Returns targets as rows [B, N], zero where the mask is zero."""
    return jax.nn.one_hot(batch.targets, way) * batch.mask[:, None]


def present(batch: Batch, way: int) -> jax.Array:
    """Returns [N] bool: which class slots have at least one real example."""
    return jnp.sum(one_hot(batch, way), axis=0) > 0
