"""The compiled steps: one meta-update, one evaluation."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import einops
import jax
import jax.numpy as jnp
import optax

from htmaml_jax.errors import UserError
from htmaml_jax.learner import Learner
from htmaml_jax.outer import losses
from htmaml_jax.run import mesh as meshes


class State(NamedTuple):
    """What a meta-update changes.

    Attributes:
      step: [] int32, meta-updates done.
      meta: {base, hyper, embed, inner}.
      optimizer: state of the outer optimizer.
    """

    step: jax.Array
    meta: Any
    optimizer: Any


def init_state(
    learner: Learner, optimizer: optax.GradientTransformation, key, episode
) -> State:
    """Makes the state of step 0 from one example episode."""
    meta = learner.init(key, episode)
    return State(jnp.zeros((), jnp.int32), meta, optimizer.init(meta))


def _chunks(tree, chunk):
    """Splits leading axes [T, ...] into [T / chunk, chunk, ...]."""
    return jax.tree.map(
        lambda x: einops.rearrange(x, "(n c) ... -> n c ...", c=chunk), tree
    )


def _over_tasks(function, chunk):
    """Maps over [chunk]; a lone task needs no batch axis, and is faster."""
    if chunk > 1:
        return jax.vmap(function)

    def alone(*trees):
        out = function(*jax.tree.map(lambda x: x[0], trees))
        return jax.tree.map(lambda x: x[None], out)

    return alone


def _paired(shuffled, pieces):
    """Puts beside every task the next one, where that is wanted."""
    if not shuffled:
        return pieces
    if jax.tree.leaves(pieces)[0].shape[0] < 2:
        raise UserError(
            "embed.control=shuffled and outer.exchange between tasks need two "
            "tasks or more; raise train.tasks."
        )
    return pieces, jax.tree.map(lambda x: jnp.roll(x, -1, axis=0), pieces)


def _episodes_of(shuffled, episodes, shared, piece):
    """Returns (episodes, supports of other tasks or None)."""
    if not shuffled:
        return episodes(shared, piece), None
    mine, others = piece
    return episodes(shared, mine), episodes(shared, others).support


def make_meta_gradient(
    learner: Learner,
    episodes: Callable[[Any, Any], Any],
    mesh: jax.sharding.Mesh,
    chunk: int,
    steps: int = 1,
    paired: bool = False,
) -> Callable:
    """Returns (meta, key, step, shared, pieces) -> (gradient, metrics).

    A task's randomness is fold_in(key, its global index). The key is an
    argument so that one compiled program serves every seed.

    The gradient is taken inside a scan over chunks of tasks, so memory does
    not grow with the number of tasks.

    Args:
      learner: the system.
      episodes: (shared, pieces [chunk]) -> Episode of [chunk, ...].
      mesh: devices.
      chunk: tasks at a time, a divisor of the tasks per device.
      steps: meta-updates of the whole training, for schedules.
      paired: give each task another one's support set, too.
    """

    def mean_loss(meta, key, progress, batch, others):
        def loss_of(episode, other):
            mine = jax.random.fold_in(key, episode.index)
            return learner.meta_loss(meta, episode, mine, progress, other)

        each = _over_tasks(loss_of, chunk)(batch, others)
        return jax.tree.map(jnp.mean, each)

    def of_chunk(meta, key, progress, shared, piece):
        gradient = jax.value_and_grad(mean_loss, has_aux=True)
        batch, others = _episodes_of(paired, episodes, shared, piece)
        (loss, metrics), grads = gradient(meta, key, progress, batch, others)
        return grads, {**metrics, "objective": loss}

    def share(meta, key, step, shared, pieces):
        progress = step / steps
        pieces = _chunks(pieces, chunk)

        def add(total, piece):
            new = of_chunk(meta, key, progress, shared, piece)
            return jax.tree.map(jnp.add, total, new), None

        first = jax.tree.map(lambda x: x[0], pieces)
        like = jax.eval_shape(of_chunk, meta, key, progress, shared, first)
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like)
        total, _ = jax.lax.scan(add, zeros, pieces)
        count = jax.tree.leaves(pieces)[0].shape[0]
        total = jax.tree.map(lambda x: x / count, total)
        return jax.lax.pmean(total, meshes.AXIS)

    spread = meshes.spread(
        mesh,
        share,
        (meshes.REPLICATED,) * 4 + (meshes.SHARDED,),
        meshes.REPLICATED,
    )

    def meta_gradient(meta, key, step, shared, pieces):
        return spread(meta, key, step, shared, _paired(paired, pieces))

    return meta_gradient


def make_train_step(
    learner: Learner,
    optimizer: optax.GradientTransformation,
    episodes: Callable[[Any, Any], Any],
    mesh: jax.sharding.Mesh,
    chunk: int,
    steps: int = 1,
    paired: bool = False,
) -> Callable:
    """Compiles (state, key, shared, pieces) -> (state, metrics).

    Of the optimizer see `make_optimizer`, of all else `make_meta_gradient`.
    """
    gradient = make_meta_gradient(learner, episodes, mesh, chunk, steps, paired)

    def train_step(state, key, shared, pieces):
        grads, metrics = gradient(state.meta, key, state.step, shared, pieces)
        updates, inner = optimizer.update(grads, state.optimizer, state.meta)
        meta = optax.apply_updates(state.meta, updates)
        metrics["gradient_norm"] = optax.tree.norm(grads)
        return State(state.step + 1, meta, inner), metrics

    return jax.jit(train_step, donate_argnums=0)


def make_eval_step(
    learner: Learner,
    episodes: Callable[[Any, Any], Any],
    mesh: jax.sharding.Mesh,
    chunk: int,
    shuffled: bool = False,
    judge: Callable | None = None,
) -> Callable:
    """Compiles (meta, shared, pieces [T]) -> query metrics [T].

    Another `judge` than `learner.score` may return more per episode: what
    comes back has its leaves, with [T] in front.
    """
    judge = judge or learner.score

    def share(meta, shared, pieces):
        each = _over_tasks(lambda e, o: judge(meta, e, o), chunk)
        out = jax.lax.map(
            lambda p: each(*_episodes_of(shuffled, episodes, shared, p)),
            _chunks(pieces, chunk),
        )
        # Every process gets all values: a host reads only its own devices.
        out = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), out)
        return jax.lax.all_gather(out, meshes.AXIS, tiled=True)

    spread = meshes.spread(
        mesh,
        share,
        (meshes.REPLICATED, meshes.REPLICATED, meshes.SHARDED),
        meshes.REPLICATED,
    )

    def eval_step(meta, shared, pieces):
        return spread(meta, shared, _paired(shuffled, pieces))

    return jax.jit(eval_step)


def specialise(
    learner: Learner, meta: Any, support: Any
) -> Callable[[Any], jax.Array]:
    """Adapts to a support Batch.

    Returns:
      Compiled inputs [n, ...] -> log-probabilities of classes [n, N], or of
      structures [n, D, H, W, N].
    """
    adapt, log_odds = _specialising(learner)
    return functools.partial(log_odds, adapt(meta, support))


@functools.lru_cache(maxsize=8)
def _specialising(learner):
    """Compiles once what a learner does with one support set after another."""
    classes = learner.problem.classes
    to_odds = jax.nn.log_softmax if classes else losses.log_odds_of_structures

    def log_odds(adapted, inputs):
        return to_odds(learner.predict(adapted, inputs))

    return jax.jit(learner.adapt), jax.jit(log_odds)
