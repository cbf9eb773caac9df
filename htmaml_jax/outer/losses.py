"""Losses and metrics over masked examples and class slots."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from htmaml_jax.episode import Batch

# Far below any logit, yet finite: -inf would make NaN gradients.
_NEVER = -1e9


def only_present(logits: jax.Array, classes: jax.Array) -> jax.Array:
    """Rules out class slots that have no support: logits [B, N], [N] bool."""
    return jnp.where(classes, logits, _NEVER)


def cross_entropy(
    logits: jax.Array, batch: Batch, shares: jax.Array | None = None
) -> jax.Array:
    """Averages the cross-entropy of logits [B, N] over real examples.

    `shares` [B, N] stands for targets that are of several classes.
    """
    if shares is None:
        # A product with constants: the gradient of an index is a scatter.
        shares = jax.nn.one_hot(batch.targets, logits.shape[1])
    shares = shares.astype(logits.dtype)
    each = -jnp.sum(shares * jax.nn.log_softmax(logits), axis=1)
    return _over_real(each, batch)


def accuracy(logits: jax.Array, batch: Batch) -> jax.Array:
    """Returns the share of real examples whose largest logit is right."""
    return _over_real(jnp.argmax(logits, axis=1) == batch.targets, batch)


def macro_f1(logits: jax.Array, batch: Batch) -> jax.Array:
    """Averages F1 = 2 tp / (2 tp + fp + fn) over classes, each counting alike.

    A class that neither an example nor a guess is of is left out.
    """
    way = logits.shape[1]
    true = jax.nn.one_hot(batch.targets, way) * batch.mask[:, None]
    guess = jax.nn.one_hot(jnp.argmax(logits, axis=1), way)
    guess = guess * batch.mask[:, None]
    both = jnp.sum(true, axis=0) + jnp.sum(guess, axis=0)
    f1 = 2 * jnp.sum(true * guess, axis=0) / jnp.maximum(both, 1)
    return jnp.sum(f1) / jnp.maximum(jnp.sum(both > 0), 1)


def squared_error(outputs: jax.Array, batch: Batch) -> jax.Array:
    """Averages the squared error of outputs [B, D] over real examples."""
    each = jnp.mean((outputs - batch.targets) ** 2, axis=1)
    return _over_real(each, batch)


def dice_cross_entropy(
    logits: jax.Array, batch: Batch, balanced: bool = False
) -> jax.Array:
    """Averages soft Dice loss + cross-entropy over real volumes.

    The Dice loss of V-Net (Milletari et al., 3DV 2016, §3) with its
    denominator not squared, and the sum of both as in nnU-Net (Isensee et
    al., Nature Methods 2021).

    Args:
      logits: [B, D, H, W, N] of N structures against the background, whose
        own is 0.
      batch: of targets [B, D, H, W] in 0 to N.
      balanced: background and structures weigh the same in the
        cross-entropy, not every voxel. For inner steps, to which a structure
        of one voxel in a hundred would say next to nothing; it would be
        found in too many places if this judged the outcome.
    """
    space, many = (1, 2, 3), logits.shape[-1] + 1
    logits = _with_background(logits)
    parts = jax.nn.one_hot(batch.targets, many, dtype=logits.dtype)
    overlap = optax.losses.dice_loss(
        logits, parts, axis=space, ignore_background=True
    )
    entropy = -parts * jax.nn.log_softmax(logits)
    if balanced:
        weight = jnp.maximum(jnp.sum(parts, space), 1)
        entropy = jnp.mean(jnp.sum(entropy, space) / weight, -1)
    else:
        entropy = jnp.mean(jnp.sum(entropy, -1), space)
    return _over_real(overlap + entropy, batch)


def dice(logits: jax.Array, batch: Batch) -> jax.Array:
    """Returns the mean Dice coefficient of the structures of volumes.

    Where neither truth nor prediction has any of one, it is 1.
    """
    slots = 1 + jnp.arange(logits.shape[-1])
    found = structures(logits)[..., None] == slots
    truth = batch.targets[..., None] == slots
    both = jnp.sum(found & truth, (1, 2, 3))
    sizes = jnp.sum(found, (1, 2, 3)) + jnp.sum(truth, (1, 2, 3))
    each = jnp.where(sizes > 0, 2 * both / jnp.maximum(sizes, 1), 1.0)
    return _over_real(jnp.mean(each, -1), batch)


def structures(logits: jax.Array) -> jax.Array:
    """Returns the likeliest of N structures, 1 to N, or 0, the background."""
    return jnp.argmax(_with_background(logits), -1)


def log_odds_of_structures(logits: jax.Array) -> jax.Array:
    """Returns log-probabilities [..., N] of the structures."""
    return jax.nn.log_softmax(_with_background(logits))[..., 1:]


def _with_background(logits):
    return jnp.concatenate([jnp.zeros_like(logits[..., :1]), logits], -1)


def _over_real(each, batch):
    return jnp.sum(each * batch.mask) / jnp.maximum(jnp.sum(batch.mask), 1)


def step_weights(count: int, progress: jax.Array | float) -> list:
    """Weighs the query loss after every inner step (MAML++, 2019, §4).

    All alike at first; until a tenth of training is done what all but the
    last weigh falls to 0.03 / count.
    """
    if count == 1:
        return [1.0]
    early = jnp.maximum(1 - progress / 0.1, 0.03) / count
    return [early] * (count - 1) + [1 - (count - 1) * early]


class Problem(NamedTuple):
    """What kind of answer a network gives, and how it is judged.

    Attributes:
      classes: whether outputs are the classes that an example may be of.
      loss: (outputs, batch) -> [], what the outcome is judged by.
      inner: the same for steps of the inner loop.
      metric: name of the figure that is reported.
      score: (outputs, batch) -> [], that figure.
      better: 1 if more of it is better, else -1.
      joint: whether joint training tells the classes of training apart.
      named: whether classes have names, so that slot k is always the k-th.
      grouped: whether outputs are slots of a task, of classes or of
        structures, which can have prototypes.
    """

    classes: bool
    loss: Callable[[jax.Array, Batch], jax.Array]
    inner: Callable[[jax.Array, Batch], jax.Array]
    metric: str
    score: Callable[[jax.Array, Batch], jax.Array]
    better: int
    joint: bool
    named: bool = False
    grouped: bool = True


PROBLEMS = {
    "classes": Problem(
        True, cross_entropy, cross_entropy, "accuracy", accuracy, 1, True
    ),
    "labels": Problem(
        True, cross_entropy, cross_entropy, "macro_f1", macro_f1, 1, False, True
    ),
    "numbers": Problem(
        False,
        squared_error,
        squared_error,
        "mse",
        squared_error,
        -1,
        False,
        grouped=False,
    ),
    # Structures against a background.
    "voxels": Problem(
        False,
        dice_cross_entropy,
        functools.partial(dice_cross_entropy, balanced=True),
        "dice",
        dice,
        1,
        True,
    ),
}
