"""Cubes of cells around annotated structures, and what lies in them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from htmaml_jax.data import nifti
from htmaml_jax.data.together import SMALLEST

BESIDE = 3  # cells that a cube may lie beside the middle


def parts_of(
    found: Sequence[np.ndarray], affine: np.ndarray, grid: nifti.Grid
) -> np.ndarray:
    """Resamples N structures, each [X, Y, Z] bool, that do not overlap.

    Returns:
      [D, H, W] of 0 to N: what fills the largest share of each cell.
    """
    shares = [nifti.sample(inside, affine, grid) for inside in found]
    shares = np.stack([1 - np.sum(shares, axis=0), *shares])
    return shares.argmax(0).astype(np.min_scalar_type(len(found)))


def middle(inside: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Returns the middle [3] of the box around what is true, in mm."""
    places = np.argwhere(inside)
    centre = (places.min(0) + places.max(0)) / 2
    return affine[:3, :3] @ centre + affine[:3, 3]


def width_of(inside: np.ndarray, affine: np.ndarray) -> float:
    """Returns the longest side, in mm, of the box around what is true."""
    places = np.argwhere(inside)
    cells = places.max(0) - places.min(0) + 1
    return float((cells * nifti.spacing_of(affine)).max())


def numbered(
    mask: nifti.Volume, grid: nifti.Grid, structures: Sequence[int]
) -> np.ndarray:
    """Resamples labels; makes them places among those of structures, from 1."""
    there = set(np.unique(mask.data).tolist())
    places = [k for k, n in enumerate(structures, 1) if n in there]
    found = [mask.data == n for n in structures if n in there]
    parts = parts_of(found, mask.affine, grid)
    kind = np.min_scalar_type(len(structures))
    return np.array([0, *places], kind)[parts]


def grids(
    mask: nifti.Volume,
    name: str,
    plan: Any,
    side: int,
    wide: dict[str, float],
) -> Iterator[tuple[nifti.Grid, Sequence[int]]]:
    """Yields cubes, and the places in the plan of the structures in each.

    Args:
      mask: labels.
      name: of the case, which says how far a cube lies beside the middle.
      plan: see `volumes.Plan`.
      side: of a cube, in cells.
      wide: is told the structures, and how wide in mm they are, that are far
        wider than their cubes and have none.
    """
    digest = hashlib.sha256(name.encode()).digest()
    rng = np.random.default_rng(list(digest))

    def around(inside):
        beside = rng.uniform(-BESIDE, BESIDE, 3) * plan.spacing
        centre = middle(inside, mask.affine) + beside
        return nifti.grid_at(centre, plan.spacing, side)

    if not plan.apart:
        yield around(mask.data > 0), range(len(plan.structures))
        return
    for place, number in enumerate(plan.structures):
        inside = mask.data == number
        if not inside.any():
            continue
        width = width_of(inside, mask.affine)
        if width > 1.5 * side * max(plan.spacing):
            called = plan.structures[number]
            wide[called] = max(width, wide.get(called, 0.0))
        else:
            yield around(inside), (place,)


def too_small(name: str, count: int, plan: Any) -> str:
    """Says that some volumes are no examples of a structure they show."""
    return (
        f"{name} in {count} volumes, whose cubes show fewer than {SMALLEST} "
        f"cells of {max(plan.spacing):g} {plan.unit} of it; set a smaller "
        "data.spacing if it is small, a larger one if it lies beyond its cube"
    )


def too_wide(name: str, width: float, plan: Any, side: int) -> str:
    """Says what a cube would have to be like for a structure of mm width."""
    return (
        f"{name}, {width:.0f} mm wide, of which a cube of {side} cells of "
        f"{max(plan.spacing):g} mm shows too little; set "
        f"data.spacing={2 * width / side:.1f} to see it"
    )
