"""What a trained system does in a task, to be looked at."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from htmaml_jax import fillings
from htmaml_jax.episode import Batch, Episode
from htmaml_jax.hyper import heads
from htmaml_jax.learner import Learner


class Look(NamedTuple):
    """What is seen of one task.

    Attributes:
      summary: [E] embedding of the task; empty without a generator.
      tokens: [N, D] those of its classes; empty likewise.
      outputs: [K + 1, Q, N] for the queries, before the first inner step and
        after each; the last is after tuning where `eval.finetune` asks for it.
      scores: [K + 1] the query metric of each.
    """

    summary: jax.Array
    tokens: jax.Array
    outputs: jax.Array
    scores: jax.Array


def make_look(
    learner: Learner, episodes: Callable[[Any, Any], Episode]
) -> Callable[[Any, Any, Any], tuple[Episode, Look]]:
    """Compiles (meta, shared, pieces) -> an episode and the Look at it.

    Args:
      learner: of the form of the tasks.
      episodes: (shared, pieces of one task) -> Episode of [1, ...].
    """
    config = learner.config.copy_and_resolve_references()
    config.inner.steps = 0
    still = dataclasses.replace(learner, config=config)

    def one(meta, shared, pieces):
        episode = jax.tree.map(lambda x: x[0], episodes(shared, pieces))
        return episode, look(learner, still, meta, episode)

    return jax.jit(one)


def make_comparison(
    learner: Learner, episodes: Callable[[Any, Any], Episode]
) -> Callable[[Any, Any, Any, Any], tuple[jax.Array, jax.Array]]:
    """Compiles (meta, shared, pieces, others) -> logits of both.

    Those [Q, N] of the queries of one task, and those [O, N] of other inputs
    [O, ...], by the network that was adapted to the task; of heads from
    prototypes they are negative squared distances, see `heads.left_out`, but
    for what inner steps changed.
    """
    sharpness = learner.config.hyper.sharpness

    def answers(adapted, inputs):
        logits = learner.predict(adapted, inputs)
        if not fillings.makes_head(learner.config):
            return logits
        batch = Batch(inputs, None, jnp.ones(len(inputs)))
        features = learner.features(adapted.params, batch)
        return logits - heads.left_out(features, sharpness)[:, None]

    def compare(meta, shared, pieces, others):
        episode = jax.tree.map(lambda x: x[0], episodes(shared, pieces))
        adapted = learner.adapt(meta, episode.support, episode.domain)
        inside = answers(adapted, episode.query.inputs)
        return inside, answers(adapted, others)

    return jax.jit(compare)


def look(learner: Learner, still: Learner, meta: Any, episode: Episode) -> Look:
    """Looks at one task.

    Args:
      learner: of the form of the task.
      still: the same without an inner loop.
      meta: see `Learner.init`.
      episode: the task.
    """
    support, query = episode.support, episode.query
    strength = learner.config.eval.strength
    start = learner.start(meta, support, episode.domain, strength=strength)
    passed = still.polish(start, support)[0]
    if learner.config.inner.steps:
        passed += learner.polish(start, support, every=True)[0]
    if learner.config.eval.finetune:
        passed.append(learner.tune(passed[-1], support))
    outputs = [learner.predict(a, query.inputs, query.mask) for a in passed]
    scores = [learner.problem.score(out, query) for out in outputs]
    summary, tokens = jnp.zeros(0), jnp.zeros((learner.way, 0))
    if learner.generates:
        task = learner.read(meta, start.shared, support, episode.domain)
        summary, tokens = task.summary, task.tokens
    return Look(summary, tokens, jnp.stack(outputs), jnp.stack(scores))
