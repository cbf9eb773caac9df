"""Gradient descent on the support set with learned step sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

# Up to here the loop is unrolled, which runs faster; beyond, compile time
# would grow with every step.
_UNROLLED = 8


def init_steps(params: Any, steps: int, size: float) -> Any:
    """Returns step sizes [K] for every parameter.

    One number per layer and step: LSLR of MAML++ (Antoniou et al., 2019,
    §4), learned with the rest of meta.
    """
    return jax.tree.map(lambda x: jnp.full((steps,), size, x.dtype), params)


def descend(
    gradient: Callable[[Any, Any], Any], params: Any, alpha: Any, data: Any
) -> Any:
    """Takes K gradient steps.

    MAML's inner loop (Finn et al., 2017, eq. 1), repeated.

    Args:
      gradient: (params, data) -> gradient of the support loss, like params;
        made by `outer.gradients.inner_gradient`.
      params: parameters to start from.
      alpha: step sizes, [K] per parameter.
      data: what the support loss needs beside params.
    """

    def step(params, alpha):
        return jax.tree.map(
            lambda p, g, a: p - a * g, params, gradient(params, data), alpha
        )

    steps = jax.tree.leaves(alpha)[0].shape[0]
    if steps <= _UNROLLED:
        for k in range(steps):
            params = step(params, jax.tree.map(lambda a, k=k: a[k], alpha))
        return params
    scanned = jax.lax.scan(lambda p, a: (step(p, a), None), params, alpha)
    return scanned[0]
