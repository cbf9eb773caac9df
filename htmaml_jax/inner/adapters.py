"""Adapters that are fitted on the support set from zero.

TSA (Li et al., CVPR 2022) puts a 1x1 convolution beside each convolution.
Here it stands behind it and is folded into the kernel, W (I + A): one form
for kernels of every kind, and no change to the network.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

PREFIX = "adapter/"


def init(params: Any) -> dict[str, jax.Array]:
    """Returns a zero matrix [Cout, Cout] for every kernel of the body."""
    found = {}
    for path, x in flatten_dict(params["body"], sep="/").items():
        if path.endswith("kernel"):
            n = x.shape[-1]
            found[f"{PREFIX}body/{path}"] = jnp.zeros((n, n), x.dtype)
    return found


def apply(params: Any, adapters: dict[str, jax.Array]) -> Any:
    """Folds adapters into parameters."""
    flat = flatten_dict(params, sep="/")
    for path, adapter in adapters.items():
        path = path.removeprefix(PREFIX)
        flat[path] = flat[path] + flat[path] @ adapter
    return unflatten_dict(flat, sep="/")
