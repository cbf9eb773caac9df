"""How the meta-gradient passes through the inner gradient.

Five ways, one name each. The first three are exact and differ in what they
keep for the backward pass:

  plain    reverse over reverse: all activations of all steps. The reference.
  remat    the parameters of each step; both passes are computed again.
  mixed    the parameters of each step; the product of the Hessian and a
           vector is computed forward over reverse, after MixFlow-MG (Kemaev
           et al., ICML 2025, arXiv 2505.00793).
  first    first order: inner gradients count as constants (Finn et al.,
           2017, §5.2).
  reptile  the query loss is not used: the start moves towards where the
           inner loop ended (Nichol et al., 2018, arXiv 1803.02999).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from htmaml_jax.errors import UserError

EXACT = ("plain", "remat", "mixed")
MODES = (*EXACT, "first", "reptile")


def inner_gradient(
    loss: Callable[[Any, Any], jax.Array], mode: str = "plain"
) -> Callable[[Any, Any], Any]:
    """Returns (params, data) -> gradient of `loss` in params.

    Args:
      loss: (params, data) -> []. Whatever is traced must come through its
        arguments, not by closure: the rule of "mixed" runs when the trace of
        an outer vmap is over.
      mode: one of MODES.
    """
    gradient = jax.grad(loss)
    if mode == "plain":
        return gradient
    if mode == "remat":
        return jax.checkpoint(gradient)
    if mode == "mixed":
        return _mixed(loss)
    if mode in ("first", "reptile"):
        return lambda *args: jax.lax.stop_gradient(gradient(*args))
    raise ValueError(f"mode is one of {', '.join(MODES)}, not {mode!r}")


def _mixed(loss):
    """Gives jax.grad(loss) a forward-over-reverse vector product.

    The Hessian is symmetric, so v^T H = H v: one forward derivative of the
    gradient in direction v, taken of params and of the real-valued data at
    once, which holds the mixed second derivatives too.
    """

    @jax.custom_vjp
    def gradient(params, real, rest):
        return jax.grad(loss)(params, _merge(real, rest))

    def forward(params, real, rest):
        return gradient(params, real, rest), (params, real, rest)

    def backward(kept, v):
        params, real, rest = kept

        def of_all(params):
            both = jax.grad(
                lambda p, r: loss(p, _merge(r, rest)), argnums=(0, 1)
            )
            return both(params, real)

        _, (of_params, of_real) = jax.jvp(of_all, (params,), (v,))
        return of_params, of_real, None

    gradient.defvjp(forward, backward)

    def split(params, data):
        real = jax.tree.map(lambda x: x if _is_real(x) else None, data)
        rest = jax.tree.map(lambda x: None if _is_real(x) else x, data)
        return gradient(params, real, rest)

    return split


def _is_real(x):
    return jnp.issubdtype(jnp.result_type(x), jnp.inexact)


def _merge(real, rest):
    return jax.tree.map(
        lambda a, b: b if a is None else a,
        real,
        rest,
        is_leaf=lambda x: x is None,
    )


def annealed(
    gradient: Callable[[Any, Any], Any], second: jax.Array
) -> Callable[[Any, Any], Any]:
    """Lets the meta-gradient pass where `second` [] is true.

    Derivative-order annealing (Antoniou et al., 2019, §4): first order at
    first. What is not used is computed all the same.
    """

    def of(variables, data):
        found = gradient(variables, data)
        first = jax.lax.stop_gradient(found)
        return jax.tree.map(
            lambda a, b: b + jnp.where(second, 1, 0) * (a - b), found, first
        )

    return of


def reptile(start: Any, end: Any) -> jax.Array:
    """Returns a number whose gradient in `start` is start - end.

    The meta-gradient of Reptile; where the start was itself made from other
    parameters, the chain rule carries it on to those.
    """
    parts = jax.tree.map(
        lambda a, b: jnp.vdot(jax.lax.stop_gradient(a - b), a), start, end
    )
    return sum(jax.tree.leaves(parts))


def matches(pattern: str, meta: Any) -> Any:
    """Marks the leaves of meta whose path fits a regular expression.

    Raises:
      UserError: none does.
    """

    def path(keys):
        return jax.tree_util.keystr(keys, simple=True, separator="/")

    marks = jax.tree_util.tree_map_with_path(
        lambda keys, _: bool(re.fullmatch(pattern, path(keys))), meta
    )
    if not any(jax.tree.leaves(marks)):
        raise UserError(
            f"outer.frozen {pattern!r} matches nothing that is learned, such "
            f"as {path(jax.tree_util.tree_leaves_with_path(meta)[0][0])}."
        )
    return marks


def frozen(pattern: str, meta: Any) -> Any:
    """Lets no gradient into the leaves whose path fits `pattern`."""
    return jax.tree.map(
        lambda mark, x: jax.lax.stop_gradient(x) if mark else x,
        matches(pattern, meta),
        meta,
    )
