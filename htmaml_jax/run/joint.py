"""One update of several domains that share the trunk of a generator.

Each domain has a base network, an encoder, step sizes and the generator's
heads of its own; what reads the task tokens is one for all, or one each that
learns at the same rate.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from htmaml_jax.errors import UserError
from htmaml_jax.hyper.generator import TRUNK
from htmaml_jax.run import step

# Of Adam on log-variances, numbers of size 1: some dozen updates bring them
# to the size of their loss, where a meta-rate of 1e-3 takes thousands.
DOUBT_RATE = 0.05


class Joint(NamedTuple):
    """What a joint update changes.

    Attributes:
      step: [] int32, updates done.
      trunks: "all" -> {"hyper": what is a part of every domain's}, or
        domain -> that of its own.
      own: domain -> meta without the trunk.
      doubt: domain -> [] log-variance of its loss.
      optimizers: those of the trunks, of each domain, and of the doubts.
    """

    step: jax.Array
    trunks: dict[str, Any]
    own: dict[str, Any]
    doubt: dict[str, jax.Array]
    optimizers: dict[str, Any]


def split(meta: Any) -> tuple[Any, Any]:
    """Splits a meta into the trunk and the rest."""
    hyper = meta["hyper"]
    trunk = {k: x for k, x in hyper.items() if re.fullmatch(TRUNK, k)}
    rest = {k: x for k, x in hyper.items() if k not in trunk}
    return trunk, {**meta, "hyper": rest}


def merge(trunk: Any, own: Any) -> Any:
    """Puts the two parts of a meta together again; see `split`."""
    return {**own, "hyper": {**own["hyper"], **trunk}}


def init(
    metas: Mapping[str, Any],
    optimizers: Mapping[str, Any],
    shared: bool = True,
) -> Joint:
    """Makes the state of step 0; the trunk is that of the first domain.

    Args:
      metas: domain -> its meta.
      optimizers: "doubt", one per domain, and "trunk", one per trunk.
      shared: whether there is a common trunk; else each keeps its own.

    Raises:
      UserError: trunks differ in shape, or there is none.
    """
    parts = {name: split(meta) for name, meta in metas.items()}
    shapes = {
        name: jax.tree.map(jnp.shape, trunk)
        for name, (trunk, _) in parts.items()
    }
    first = next(iter(parts))
    trunks = {name: {"hyper": trunk} for name, (trunk, _) in parts.items()}
    if shared:
        for name, shape in shapes.items():
            if not shape or shape != shapes[first]:
                raise UserError(
                    f"{name} and {first} cannot share a trunk: their "
                    "generators read tasks in other ways (system, "
                    "hyper.trunk, hyper.dim, hyper.layers, embed.dim); make "
                    "them alike or set joint.shared=False."
                )
        trunks = {"all": trunks[first]}
    own = {name: rest for name, (_, rest) in parts.items()}
    doubt = {name: jnp.zeros(()) for name in metas}
    states = {name: optimizers[name].init(own[name]) for name in metas}
    states["trunk"] = {
        name: optimizers["trunk"][name].init(trunk)
        for name, trunk in trunks.items()
    }
    states["doubt"] = optimizers["doubt"].init(doubt)
    return Joint(jnp.zeros((), jnp.int32), trunks, own, doubt, states)


def meta_of(state: Joint, name: str) -> Any:
    """Returns the whole meta of a domain."""
    key = "all" if "all" in state.trunks else name
    return merge(state.trunks[key]["hyper"], state.own[name])


def shares(
    how: str, doubt: Mapping[str, jax.Array], trunks: Mapping[str, Any]
) -> dict[str, jax.Array]:
    """Returns by what each domain's gradient is multiplied in the trunk's.

    "none": the mean. "uncertainty": the mean weighted by exp(-s), with s
    learned on the sum of exp(-s) loss + s (Kendall et al., CVPR 2018, §3.2,
    up to factors of 1/2). "gradient": the mean of gradients that are brought
    to their mean norm; one that is zero, as while a domain learns jointly,
    is not among them.

    Args:
      how: `joint.weigh` of the config.
      doubt: domain -> s.
      trunks: domain -> its gradient in the trunk.
    """
    if how == "uncertainty":
        trust = {name: jnp.exp(-doubt[name]) for name in trunks}
        return {name: x / sum(trust.values()) for name, x in trust.items()}
    if how == "gradient":
        norms = {name: optax.tree.norm(tree) for name, tree in trunks.items()}
        alive = {name: x > 0 for name, x in norms.items()}
        count = jnp.maximum(sum(alive.values()), 1)
        mean = sum(norms.values()) / count
        return {
            name: jnp.where(
                alive[name], mean / jnp.where(alive[name], x, 1) / count, 0
            )
            for name, x in norms.items()
        }
    return {name: jnp.asarray(1 / len(trunks)) for name in trunks}


def doubts() -> optax.GradientTransformation:
    """Makes the optimizer of log-variances."""
    return optax.adam(DOUBT_RATE)


def make_gradient(*args: Any) -> Callable:
    """Compiles the gradient of one domain; see `step.make_meta_gradient`.

    Metrics tell its norm, too: a gradient may be no number where no loss is.
    """
    gradient = step.make_meta_gradient(*args)

    def run(*about):
        made, metrics = gradient(*about)
        return made, metrics | {"gradient_norm": optax.tree.norm(made)}

    return jax.jit(run)


def make_update(
    optimizers: Mapping[str, Any], how: str
) -> Callable[[Joint, Any, Any], tuple[Joint, dict[str, jax.Array]]]:
    """Compiles (state, gradients, losses) -> (state, shares).

    Gradients and losses are one per domain, of its whole meta. Its own
    parameters follow its own gradient; a trunk that is one for all follows
    the sum of all by their `shares`.
    """

    def follow(optimizer, gradient, state, params):
        step, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, step), state

    def update(state, gradients, losses):
        parts = {name: split(g) for name, g in gradients.items()}
        trunks = {name: {"hyper": x} for name, (x, _) in parts.items()}
        share = shares(how, state.doubt, trunks)
        if "all" in state.trunks:
            whole = jax.tree.map(
                lambda *x: sum(
                    w * g for w, g in zip(share.values(), x, strict=True)
                ),
                *trunks.values(),
            )
            trunks = {"all": whole}
        doubts = {
            name: 1 - jnp.exp(-state.doubt[name]) * losses[name]
            for name in state.doubt
        }
        old = state.optimizers
        read, reading = {}, {}
        for name, gradient in trunks.items():
            read[name], reading[name] = follow(
                optimizers["trunk"][name],
                gradient,
                old["trunk"][name],
                state.trunks[name],
            )
        new, states = {}, {"trunk": reading}
        for name, (_, gradient) in parts.items():
            new[name], states[name] = follow(
                optimizers[name], gradient, old[name], state.own[name]
            )
        doubt, states["doubt"] = follow(
            optimizers["doubt"], doubts, old["doubt"], state.doubt
        )
        return Joint(state.step + 1, read, new, doubt, states), share

    return jax.jit(update, donate_argnums=0)
