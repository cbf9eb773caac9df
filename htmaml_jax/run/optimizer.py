"""The outer optimizer: Adam, which may begin anew half-way."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from htmaml_jax.outer import gradients


def make_optimizer(outer: Any, steps: int) -> optax.GradientTransformation:
    """Builds Adam with warm-up, cosine and clipping, over `steps` updates.

    Where training is joint before it is meta, each part has its own warm-up
    and cosine, and Adam begins anew: what idled until then has no moments,
    and a count that began long ago would make its first updates several times
    too large.
    """
    change = math.ceil(outer.joint_until * steps)

    def rates(steps):
        steps = max(2, steps)
        warmup = max(1, round(outer.warmup * steps))
        return optax.warmup_cosine_decay_schedule(
            init_value=0.0,
            peak_value=outer.rate,
            warmup_steps=min(warmup, steps - 1),
            decay_steps=steps,
            end_value=outer.floor * outer.rate,
        )

    schedule = rates(steps)
    if change:
        parts = [rates(change), rates(steps - change)]
        schedule = optax.join_schedules(parts, [change])

    def decays(meta):
        # Decay regularises what reads the task, never the start itself.
        return {
            group: jax.tree.map(
                lambda x, on=group in ("embed", "hyper"): on and x.ndim > 1,
                tree,
            )
            for group, tree in meta.items()
        }

    adamw = optax.chain(
        anew(optax.scale_by_adam(), change),
        optax.add_decayed_weights(outer.decay, mask=decays),
        optax.scale_by_learning_rate(schedule),
    )
    adam = optax.chain(optax.clip_by_global_norm(outer.clip), adamw)
    if not outer.frozen:
        return adam
    # What is frozen has no moments, and no part in the norm.
    return optax.partition(
        {True: optax.set_to_zero(), False: adam},
        functools.partial(gradients.matches, outer.frozen),
    )


class Anew(NamedTuple):
    """State of `anew`: updates done, and that of what it begins anew."""

    count: jax.Array
    inner: Any


def anew(
    transform: optax.GradientTransformation, at: int
) -> optax.GradientTransformation:
    """Makes a transform that begins anew after `at` updates; 0: never."""
    if not at:
        return transform

    def init(params):
        return Anew(jnp.zeros((), jnp.int32), transform.init(params))

    def update(updates, state, params=None):
        fresh = transform.init(updates)
        inner = jax.tree.map(
            lambda new, old: jnp.where(state.count == at, new, old),
            fresh,
            state.inner,
        )
        updates, inner = transform.update(updates, inner, params)
        return updates, Anew(state.count + 1, inner)

    return optax.GradientTransformation(init, update)
