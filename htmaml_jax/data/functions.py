"""Tasks that are functions: regression from a few noisy points.

Two published families. "regression6": six kinds of functions of two inputs
(ARML, Yao et al., ICLR 2020, §5.1; code of HSML), with inputs in [0, 5] as
the paper says or in [-5, 5] as its code does. "modes2", "modes3", "modes5":
functions of one input, the kinds of MMAML (Vuorio et al., NeurIPS 2019) with
ranges of our own. Targets carry
noise of deviation 0.3, support and query alike. A task is made from (seed,
split, index) by the hash that draws all episodes; nothing is stored.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from htmaml_jax.config import KINDS
from htmaml_jax.data.draw import SPLITS, Shape, hashed, normal, uniform
from htmaml_jax.data.sources import Source, index_pieces
from htmaml_jax.data.table import Scale
from htmaml_jax.episode import Batch, Episode

NOISE = 0.3
# Numbers that fix a task: its kind, and up to four parameters.
_KIND, _PARAMETERS, _SUPPORT, _QUERY = 10, 11, 12, 13
_ANGLE = 2 * math.pi


@dataclasses.dataclass(frozen=True)
class Functions:
    """A family of function kinds; stands where clips have a Table.

    Attributes:
      name: as in results.
      kinds: how many; a task's kind is its domain id.
      low: smallest input; the largest is 5.
      features: inputs of a function.
      outside: functions have no inputs that are of no class.
    """

    name: str
    kinds: int
    low: float
    features: int
    origin: str = "built-in functions"
    licence: str = "none needed"
    outside: None = None

    @property
    def fingerprint(self) -> str:
        """Changes with the version of the generator."""
        return f"functions-1-{self.name}"

    @property
    def splits(self) -> dict:
        """Tasks are drawn, not split: no class is shared or not."""
        return {}

    @property
    def front_end(self) -> dict:
        """Returns the settings that make the inputs."""
        return {"low": self.low, "noise": NOISE}

    @property
    def domains(self) -> tuple[str, ...]:
        """Returns a name for each kind."""
        return tuple(f"kind{i}" for i in range(self.kinds))

    @property
    def scale(self) -> Scale:
        """Inputs and targets stay as published."""
        return Scale([0.0], [1.0])

    def standardised(self, scale: Scale | None = None) -> Functions:
        """Returns itself; see `Table.standardised`."""
        return self

    def describe(self) -> str:
        """Says in a few words what there is."""
        return f"{self.kinds} kinds of functions of {self.features} inputs"


FAMILIES = {
    family.name: family
    for family in (
        Functions("regression6-0-5", KINDS["regression6-0-5"], 0.0, 2),
        Functions("regression6-5-5", KINDS["regression6-5-5"], -5.0, 2),
        Functions("modes2", KINDS["modes2"], -5.0, 1),
        Functions("modes3", KINDS["modes3"], -5.0, 1),
        Functions("modes5", KINDS["modes5"], -5.0, 1),
    )
}


def _six(xp, x, u):
    """Values [6, B] of the six kinds of ARML at inputs [B, 2].

    Args:
      xp: `numpy` or `jax.numpy`.
      x: [B, 2]; kinds of one input ignore the second.
      u: [4] parameters in [0, 1).
    """

    def between(i, low, high):
        return low + (high - low) * u[i]

    a, b = x[:, 0], x[:, 1]
    squares = a**2 + b**2
    return xp.stack(
        [
            between(0, 0.1, 5.0)
            * xp.sin(between(1, 0.8, 1.2) * a + between(2, 0.0, _ANGLE)),
            between(0, -3, 3) * a + between(1, -3, 3),
            between(0, -0.2, 0.2) * a**2
            + between(1, -2, 2) * a
            + between(2, -3, 3),
            between(0, -0.1, 0.1) * a**3
            + between(1, -0.2, 0.2) * a**2
            + between(2, -2, 2) * a
            + between(3, -3, 3),
            between(0, -1, 1) * a**2 + between(1, -1, 1) * b**2,
            xp.sin(-between(0, -0.2, 0.2) * squares) + between(1, -3, 3),
        ]
    )


def _modes(xp, x, u):
    """Values [5, B] of MMAML's kinds: sine, line, parabola, tanh, |x|.

    The paper names the kinds; the ranges are ours.
    """

    def between(i, low, high):
        return low + (high - low) * u[i]

    x = x[:, 0]
    slope, shift = between(0, -3, 3), between(1, -3, 3)
    turn = between(2, -3, 3)
    return xp.stack(
        [
            between(0, 0.1, 5.0)
            * xp.sin(between(1, 0.5, 2.0) * x + between(2, 0.0, _ANGLE)),
            slope * x + shift,
            between(0, 0.02, 0.15)
            * xp.where(u[3] < 0.5, -1, 1)
            * (x - turn) ** 2
            + shift,
            slope * xp.tanh(x - turn) + shift,
            slope * xp.abs(x - turn) + shift,
        ]
    )


def build(
    xp, family: Functions, shape: Shape, seed: Any, split: int, index: Any
) -> Episode:
    """Makes one episode with `shape.shot` support and `shape.query` queries.

    Inputs are [B, features], targets [B, 1].
    """

    def draw(stream, *words):
        return uniform(xp, seed, split, index, stream, *words)

    kind = hashed(xp, seed, split, index, _KIND)[0] % xp.uint32(family.kinds)
    kind = kind.astype(xp.int32)
    u = draw(_PARAMETERS, xp.arange(4))
    values = _six if family.features == 2 else _modes

    def side(stream, count):
        places = xp.arange(count)
        columns = [draw(stream, places, i) for i in range(2)]
        x = family.low + (5 - family.low) * xp.stack(columns, axis=-1)
        noise = normal(xp, seed, split, index, stream, places, 2)
        y = values(xp, x, u)[kind] + NOISE * noise
        if family.features == 1:
            x = x[:, :1]
        else:
            # The four kinds of one input are given 1 as their second.
            only = xp.stack([x[:, 0], xp.ones_like(x[:, 1])], axis=-1)
            x = xp.where(kind < 4, only, x)
        return Batch(
            inputs=x.astype(xp.float32),
            targets=y[:, None].astype(xp.float32),
            mask=xp.ones(count, xp.float32),
        )

    return Episode(
        support=side(_SUPPORT, shape.shot),
        query=side(_QUERY, shape.query),
        index=xp.asarray(index, xp.int32),
        domain=kind,
    )


def device(family: Functions, shape: Shape, split: str, seed: int) -> Source:
    """Makes episodes inside the compiled step."""
    place = SPLITS.index(split)

    def episodes(seed, indices):
        def one(index):
            return build(jnp, family, shape, seed, place, index)

        return jax.vmap(one)(indices)

    return Source(np.uint32(seed), index_pieces, episodes)


def host(family: Functions, shape: Shape, split: str, seed: int) -> Source:
    """Makes the same episodes on the host, where tf.data would feed clips."""
    place = SPLITS.index(split)

    def pieces(*where):
        for indices in index_pieces(*where):
            made = [
                build(np, family, shape, np.uint32(seed), place, i)
                for i in indices
            ]
            yield jax.tree.map(lambda *x: np.stack(x), *made)

    return Source((), pieces, lambda shared, pieces: pieces)
