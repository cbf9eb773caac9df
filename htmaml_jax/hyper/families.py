"""Families of transforms: how one parameter changes with the task.

A family turns a token of the generator into numbers, and these numbers and
the shared parameter into the task's parameter. Each is exactly the identity
at initialisation. A parameter of more than one axis counts as the matrix
[m, n] whose columns are output units.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from htmaml_jax.errors import UserError

_ZEROS = nn.initializers.zeros
FAMILIES = ("identity", "affine", "gate", "lowrank(r)", "rows")


def matrix_shape(shape: Sequence[int]) -> tuple[int, int]:
    """Returns (m, n) of a parameter seen as a matrix with n output units."""
    return math.prod(shape[:-1]), shape[-1]


class LowRank(nn.Module):
    """W + U V^T with generated U [m, r] and V [n, r]; V starts at zero.

    LoRA (Hu et al., arXiv 2106.09685, eq. 3) with factors made from a token.
    """

    rank: int

    @nn.compact
    def __call__(self, token: jax.Array, weight: jax.Array) -> jax.Array:
        m, n = matrix_shape(weight.shape)
        # U V^T is then of the order of weights of fan-in m.
        scale = nn.initializers.variance_scaling(1 / m, "fan_in", "normal")
        u = nn.Dense(m * self.rank, kernel_init=scale, name="u")(token)
        v = nn.Dense(n * self.rank, kernel_init=_ZEROS, name="v")(token)
        delta = u.reshape(m, self.rank) @ v.reshape(n, self.rank).T
        return weight + delta.reshape(weight.shape)


class Affine(nn.Module):
    """Scales every output unit, and shifts it too when W is a vector.

    On a norm layer's scale and bias this is FiLM (Perez et al., 2018).
    """

    @nn.compact
    def __call__(self, token: jax.Array, weight: jax.Array) -> jax.Array:
        n = weight.shape[-1]
        scale = nn.Dense(n, kernel_init=_ZEROS, name="scale")(token)
        if weight.ndim > 1:
            return weight * (1 + scale)
        shift = nn.Dense(n, kernel_init=_ZEROS, name="shift")(token)
        return weight * (1 + scale) + shift


class Gate(nn.Module):
    """Multiplies every output unit by 2 sigmoid(g) with a generated g.

    After HSML and ARML (Yao et al., 2019, 2020), with the identity at g = 0.
    """

    @nn.compact
    def __call__(self, token: jax.Array, weight: jax.Array) -> jax.Array:
        n = weight.shape[-1]
        gate = nn.Dense(n, kernel_init=_ZEROS, name="gate")(token)
        return weight * (2 * jax.nn.sigmoid(gate))


class Rows(nn.Module):
    """Adds to each class's column of a head what its class token says.

    All classes share one map, so renaming classes permutes the columns.
    """

    @nn.compact
    def __call__(self, tokens: jax.Array, weight: jax.Array) -> jax.Array:
        """Maps class tokens [N, D] and a head [F, N] or [N] to a head."""
        m = weight.size // weight.shape[-1]
        rows = nn.Dense(m, kernel_init=_ZEROS, name="row")(tokens)
        return weight + jnp.reshape(rows.T, weight.shape)


def make(family: str, name: str) -> nn.Module | None:
    """Builds a family from its name in a rule, e.g. "lowrank(4)".

    Returns:
      A module (token [D], parameter) -> parameter, or None for "identity".
    """
    if found := re.fullmatch(r"lowrank\(([1-9]\d*)\)", family):
        return LowRank(int(found[1]), name=name)
    simple = {"affine": Affine, "gate": Gate, "rows": Rows}
    if family in simple:
        return simple[family](name=name)
    if family == "identity":
        return None
    raise UserError(
        f"family {family!r} in hyper.rules is unknown; choose from "
        f"{', '.join(FAMILIES)}."
    )


def generated(family: str, shape: Sequence[int]) -> int:
    """Counts the numbers that a family generates for a parameter."""
    m, n = matrix_shape(shape)
    if found := re.fullmatch(r"lowrank\((\d+)\)", family):
        return int(found[1]) * (m + n)
    if family == "affine":
        return n if len(shape) > 1 else 2 * n
    return {"gate": n, "rows": m * n, "identity": 0}[family]
