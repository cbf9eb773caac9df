"""Gradient descent on the support set with learned step sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def init_steps(params: Any, steps: int, size: float) -> Any:
    """Returns step sizes [K] for every parameter.

    One number per layer and step: LSLR of MAML++ (Antoniou et al., 2019,
    §4), learned with the rest of meta.
    """
    return jax.tree.map(lambda x: jnp.full((steps,), size, x.dtype), params)


def descend(
    loss: Callable[[Any], jax.Array], params: Any, alpha: Any, steps: int
) -> Any:
    """Takes K gradient steps.

    MAML's inner loop (Finn et al., 2017, eq. 1), repeated. The loop is
    unrolled: short loops run faster so.

    Args:
      loss: support loss of parameters.
      params: parameters to start from.
      alpha: step sizes, [K] per parameter.
      steps: K.
    """
    for k in range(steps):
        gradient = jax.grad(loss)(params)
        params = jax.tree.map(
            lambda p, g, a, k=k: p - a[k] * g, params, gradient, alpha
        )
    return params
