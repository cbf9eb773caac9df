"""The compiled step of pre-training, and what its features are worth."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np
import optax

from htmaml_jax.data.draw import Shape, make_pool
from htmaml_jax.data.table import Table
from htmaml_jax.embed.contrastive import Projected
from htmaml_jax.errors import UserError
from htmaml_jax.hyper import heads
from htmaml_jax.outer import losses
from htmaml_jax.outer.views import Views, view_loss

_BLOCK = 100  # episodes at a time


def make_step(
    network: Projected,
    optimizer: optax.GradientTransformation,
    sample: Callable[[Any, jax.Array], tuple[jax.Array, ...]],
    views: Views,
    temperature: float,
) -> Callable:
    """Compiles (params, optimizer state, shared, key) -> (same two, loss).

    `sample` makes (inputs [B, ...], those of partners, groups [B]) from
    (shared, key).
    """

    def step(params, state, shared, key):
        first, second = jax.random.split(key)
        drawn = sample(shared, first)

        def loss(params):
            return view_loss(network, params, drawn, second, views, temperature)

        value, grads = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state, value

    return jax.jit(step, donate_argnums=(0, 1))


def telling(table: Table, split: str, way: int) -> Shape | None:
    """Returns the shape of 1-shot tasks that tell structures apart.

    Of at most `way` structures, fewer if some domain has no more or if their
    subjects, of whom none may be in support and query, are too few. None if
    there are not even two.
    """
    classes = table.domain_of[table.of_split(split)]
    for fewer in range(min(way, *np.unique_counts(classes).counts), 1, -1):
        shape = Shape(fewer, 1, 1, fewer, 1)
        with contextlib.suppress(UserError):
            make_pool(table, split, shape)
            return shape
    return None


def features_of(
    body: Any, params: Any, batches: Iterable[np.ndarray]
) -> np.ndarray:
    """Returns features [n, F] of batches of inputs, all of one shape."""
    apply = jax.jit(lambda p, inputs: body.apply({"params": p}, inputs))
    found = [np.asarray(apply(params, inputs)) for inputs in batches]
    return np.concatenate(found)


def nearest(source: Any, way: int, count: int) -> float:
    """Scores features by few-shot tasks: the nearest class mean.

    Args:
      source: episodes whose inputs are features [B, F].
      way: their classes N.
      count: of tasks.

    Returns:
      Mean accuracy.
    """

    def score(episode):
        support, query = episode.support, episode.query
        head = heads.prototypes(support.inputs, support, way)
        logits = query.inputs @ head["kernel"] + head["bias"]
        return losses.accuracy(logits, query)

    @jax.jit
    def block(shared, indices):
        return jax.vmap(score)(source.episodes(shared, indices))

    pieces = source.pieces(0, _BLOCK)
    starts = range(0, count, _BLOCK)
    values = [block(source.shared, next(pieces)) for _ in starts]
    return float(np.concatenate(values)[:count].mean())


def probe(
    features: np.ndarray, labels: np.ndarray, groups: np.ndarray
) -> float:
    """Scores features [n, F] by a linear classifier with all labels.

    Logistic regression on half of the recordings (`groups`), judged on the
    other half.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupShuffleSplit
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    halves = GroupShuffleSplit(n_splits=5, test_size=0.5, random_state=0)
    scores = []
    for known, asked in halves.split(features, labels, groups):
        model = make_pipeline(
            StandardScaler(), LogisticRegression(max_iter=1000)
        )
        model.fit(features[known], labels[known])
        scores.append(model.score(features[asked], labels[asked]))
    return float(np.mean(scores))
