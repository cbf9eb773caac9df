"""Families of transforms: how one parameter changes with the task.

A family turns a token of the generator into numbers, and these numbers and
the shared parameter into the task's parameter. Each is exactly the identity
at initialisation but for `scalar` and `sigmoid`, which keep the start of the
systems that they are from. A parameter of more than one axis counts as the
matrix [m, n] whose columns are output units. Families joined by "+" act one
after the other.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from htmaml_jax.errors import UserError

_ZEROS = nn.initializers.zeros
# Tokens are about a tenth in size (`Generator.scale`): this makes ones of them.
_WIDE = nn.initializers.variance_scaling(100.0, "fan_in", "normal")
FAMILIES = (
    "identity",
    "affine",
    "affine_in",
    "film",
    "gate",
    "scalar",
    "sigmoid",
    "add",
    "rank1",
    "lowrank(r)",
    "lowrank_basis(r,m)",
    "basis(m)",
    "rows",
)


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


class LowRankBasis(nn.Module):
    """W + sum_k c_k U_k V_k^T: learned factors, generated coefficients.

    For large layers: m numbers are generated, whatever the layer's size.
    """

    rank: int
    count: int

    @nn.compact
    def __call__(self, token: jax.Array, weight: jax.Array) -> jax.Array:
        m, n = matrix_shape(weight.shape)
        normal = nn.initializers.normal
        size = (self.count, m, self.rank)
        u = self.param("u", normal(m**-0.5), size)
        v = self.param("v", normal(1.0), (self.count, n, self.rank))
        c = nn.Dense(self.count, kernel_init=_ZEROS, name="c")(token)
        delta = jnp.einsum("k,kmr,knr->mn", c, u, v)
        return weight + delta.reshape(weight.shape)


class Basis(nn.Module):
    """W + sum_k c_k B_k: learned tensors B like W, generated coefficients.

    With as many of them as there are kinds of tasks, each kind can have
    weights of its own. B starts at zero, the coefficients do not.
    """

    count: int

    @nn.compact
    def __call__(self, token: jax.Array, weight: jax.Array) -> jax.Array:
        basis = self.param("basis", _ZEROS, (self.count, *weight.shape))
        c = nn.Dense(self.count, kernel_init=_WIDE, name="c")(token)
        return weight + jnp.tensordot(c, basis, axes=1)


class Affine(nn.Module):
    """Scales units, and shifts them where W is a vector.

    On a norm layer's scale and bias this is FiLM (Perez et al., 2018).

    Attributes:
      inputs: scale input units (CNAPs has none; the last axis but one)
        instead of output units.
      shifts: shift the units of matrices too.
    """

    inputs: bool = False
    shifts: bool = False

    @nn.compact
    def __call__(self, token: jax.Array, weight: jax.Array) -> jax.Array:
        inputs = self.inputs and weight.ndim > 1
        n = weight.shape[-2 if inputs else -1]
        scale = nn.Dense(n, kernel_init=_ZEROS, name="scale")(token)
        weight = weight * (1 + (scale[:, None] if inputs else scale))
        if weight.ndim > 1 and not self.shifts:
            return weight
        n = weight.shape[-1]
        return weight + nn.Dense(n, kernel_init=_ZEROS, name="shift")(token)


class Gate(nn.Module):
    """Multiplies every output unit by 2 sigmoid(g) with a generated g.

    After HSML and ARML (Yao et al., 2019, 2020), with the identity at g = 0.
    """

    @nn.compact
    def __call__(self, token: jax.Array, weight: jax.Array) -> jax.Array:
        n = weight.shape[-1]
        gate = nn.Dense(n, kernel_init=_ZEROS, name="gate")(token)
        return weight * (2 * jax.nn.sigmoid(gate))


class Sigmoid(nn.Module):
    """Multiplies by sigmoid(g), from (0, 1): not the identity at its start.

    Attributes:
      each: one g per weight (HSML, Yao et al., 2019, eq. 9) or, if False,
        one for the whole tensor (L2F, Baik et al., 2020, eq. 5).
    """

    each: bool

    @nn.compact
    def __call__(self, token: jax.Array, weight: jax.Array) -> jax.Array:
        gate = nn.Dense(weight.size if self.each else 1, name="gate")(token)
        gate = gate.reshape(weight.shape) if self.each else gate[0]
        return weight * jax.nn.sigmoid(gate)


class Rank1(nn.Module):
    """W * (1 + u v^T): KML (Abdollahzadeh et al., 2021, eq. 6)."""

    @nn.compact
    def __call__(self, token: jax.Array, weight: jax.Array) -> jax.Array:
        m, n = matrix_shape(weight.shape)
        u = nn.Dense(m, name="u")(token)
        v = nn.Dense(n, kernel_init=_ZEROS, name="v")(token)
        return weight * (1 + jnp.outer(u, v).reshape(weight.shape))


class Add(nn.Module):
    """Adds a generated number to every weight: for small tensors."""

    @nn.compact
    def __call__(self, token: jax.Array, weight: jax.Array) -> jax.Array:
        delta = nn.Dense(weight.size, kernel_init=_ZEROS, name="add")(token)
        return weight + delta.reshape(weight.shape)


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


class Chain(nn.Module):
    """Families one after the other."""

    parts: tuple[nn.Module, ...]

    def __call__(self, token: jax.Array, weight: jax.Array) -> jax.Array:
        for part in self.parts:
            weight = part(token, weight)
        return weight


_SIMPLE = {
    "affine": Affine,
    "affine_in": functools.partial(Affine, inputs=True),
    "film": functools.partial(Affine, shifts=True),
    "gate": Gate,
    "scalar": functools.partial(Sigmoid, each=False),
    "sigmoid": functools.partial(Sigmoid, each=True),
    "add": Add,
    "rank1": Rank1,
    "rows": Rows,
}


def make(family: str, name: str | None = None) -> nn.Module | None:
    """Builds a family from its name in a rule, e.g. "affine+lowrank(4)".

    Returns:
      A module (token [D], parameter) -> parameter, or None for "identity".
    """
    parts = family.split("+")
    if len(parts) > 1 and not {"identity", "rows"} & set(parts):
        return Chain(tuple(make(part) for part in parts), name=name)
    if found := re.fullmatch(r"lowrank\(([1-9]\d*)\)", family):
        return LowRank(int(found[1]), name=name)
    pattern = r"lowrank_basis\(([1-9]\d*), ?([1-9]\d*)\)"
    if found := re.fullmatch(pattern, family):
        return LowRankBasis(int(found[1]), int(found[2]), name=name)
    if found := re.fullmatch(r"basis\(([1-9]\d*)\)", family):
        return Basis(int(found[1]), name=name)
    if family in _SIMPLE:
        return _SIMPLE[family](name=name)
    if family == "identity":
        return None
    raise UserError(
        f"family {family!r} in hyper.rules is unknown; choose from "
        f"{', '.join(FAMILIES)}, or join some with '+'."
    )


def generated(family: str, shape: Sequence[int]) -> int:
    """Counts the numbers that a family generates for a parameter."""
    m, n = matrix_shape(shape)
    if "+" in family:
        return sum(generated(part, shape) for part in family.split("+"))
    if found := re.fullmatch(r"lowrank\((\d+)\)", family):
        return int(found[1]) * (m + n)
    if found := re.fullmatch(r"lowrank_basis\(\d+, ?(\d+)\)", family):
        return int(found[1])
    if found := re.fullmatch(r"basis\((\d+)\)", family):
        return int(found[1])
    vector = len(shape) == 1
    return {
        "affine": 2 * n if vector else n,
        "affine_in": 2 * n if vector else shape[-2 if len(shape) > 1 else -1],
        "film": 2 * n,
        "gate": n,
        "scalar": 1,
        "sigmoid": m * n,
        "add": m * n,
        "rank1": m + n,
        "rows": m * n,
        "identity": 0,
    }[family]
