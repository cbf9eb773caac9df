"""Bodies of no organ: volumes for who has none, and for training beside some.

A room is full of bodies that touch each other: a cell belongs to the one
whose score is highest, which falls with the distance from its middle, plus
smooth noise; some have a core that is a body of its own. Every subject sees a
room bent in a way of its own, and images are drawn in each episode, see
`data.paint`. No room is of two splits. Shapes of nothing for training are from
Hoffmann et al. (SynthMorph, IEEE TMI 2022) and Butoi et al. (UniverSeg, ICCV
2023); theirs are noise alone, and so scattered.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import scipy.ndimage
import scipy.spatial

from htmaml_jax.data import cache, cubes, nifti, paint, volumes
from htmaml_jax.data.table import Table
from htmaml_jax.data.together import SMALLEST, shown

_ROOMS = {"train": 28, "validation": 6, "test": 6}
_SUBJECTS = 8  # of each room
_BODIES = 8  # in a room, cores not counted
_ASKED = 4  # bodies of a room that are looked for
_MARGIN = 16  # cells that a room is wider than a cube
# Change this whenever drawings change: it names the cached arrays.
_VERSION = 2


def read(data: Any) -> Table:
    """Draws the table; of settings only data.side matters."""
    count = sum(_ROOMS.values())
    key = {
        "kind": "shapes",
        "version": _VERSION,
        "side": data.side,
        "sizes": [count, _SUBJECTS, _BODIES, _ASKED, _MARGIN, cubes.BESIDE],
    }
    arrays = cache.cached(key, functools.partial(_draw, count, data.side))
    rooms = [
        tuple(f"body-{room:02}-{i}" for i in range(_ASKED))
        for room in range(count)
    ]
    names, splits, first = sum(rooms, ()), {}, 0
    for split, of in _ROOMS.items():
        splits[split] = sum(rooms[first : first + of], ())
        first += of
    plan = volumes.Plan(
        name="shapes",
        structures=dict(enumerate(names)),
        splits=splits,
        licence="CC0",
        spacing=(1.0, 1.0, 1.0),
        unit="voxels",
    )
    return volumes.assemble(
        plan,
        "drawn",
        data.side,
        str(sorted(key.items())),
        **arrays,
        cases=np.array([f"subject-{n:03}" for n in arrays["subjects"]]),
        drawn=True,
    )


def _draw(count, side):
    found: dict[str, list] = {
        k: [] for k in ("inputs", "masks", "labels", "subjects")
    }
    for room in cache.show_progress(range(count), desc="shapes"):
        rng = np.random.default_rng([room, side])
        bodies = _fill(rng, side + _MARGIN)
        counts = np.bincount(bodies.ravel())[1:]
        # Those of a middling size: neither a few cells nor half a room.
        apart = np.abs(np.log(np.maximum(counts, 1) / counts.sum() * 20))
        asked = 1 + np.sort(np.argsort(apart)[:_ASKED])
        tissues = rng.permutation(len(paint.TISSUES))[: 1 + len(counts)]
        places = np.zeros(1 + len(counts), np.uint8)
        places[asked] = 1 + room * _ASKED + np.arange(_ASKED)
        for subject in range(_SUBJECTS):
            seen = _bent(rng, bodies)
            for body in asked:
                inside = seen == body
                if inside.sum() < SMALLEST:
                    continue
                middle = cubes.middle(inside, np.eye(4))
                middle += rng.uniform(-cubes.BESIDE, cubes.BESIDE, 3)
                grid = nifti.grid_at(middle, 1.0, side)
                cube = nifti.sample(seen, np.eye(4), grid, order=0)
                if body not in shown(cube):
                    continue
                found["inputs"].append(tissues[cube].astype(np.uint8))
                found["masks"].append(places[cube])
                found["labels"].append(places[body] - 1)
                found["subjects"].append(room * _SUBJECTS + subject)
    made = {k: np.stack(v) for k, v in found.items()}
    made["labels"] = made["labels"].astype(np.int32)
    return made


def _fill(rng, size):
    """Draws a room [size] * 3 of body numbers, 0 where there is none."""
    grid = np.stack(np.meshgrid(*[np.arange(size)] * 3, indexing="ij"), -1)
    scores, cores = [np.full((size,) * 3, -1.0)], []
    for _ in range(_BODIES):
        turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        widths = size / 6 * np.exp(rng.uniform(-0.7, 0.5, 3))
        middle = size * rng.uniform(0.2, 0.8, 3)
        far = (((grid - middle) @ turn / widths) ** 2).sum(-1)
        scores.append(-far + 0.4 * _noise(rng, size, rng.integers(4, 9)))
        cores.append(rng.uniform(0.2, 0.5) if rng.random() < 0.3 else None)
    bodies = np.argmax(scores, 0)
    number = len(scores)
    for i, core in enumerate(cores, 1):
        if core is not None:
            bodies[(bodies == i) & (scores[i] > -core)] = number
            number += 1
    _, bodies = np.unique(bodies, return_inverse=True)
    return bodies.reshape((size,) * 3).astype(np.uint8)


def _bent(rng, bodies):
    """Bends a room as a subject sees it."""
    size = len(bodies)
    middle = (size - 1) / 2
    turn = scipy.spatial.transform.Rotation.from_rotvec(
        rng.uniform(-0.2, 0.2, 3)
    ).as_matrix()
    turn = turn * np.exp(rng.uniform(-0.15, 0.15, 3))
    grid = np.indices(bodies.shape) - middle
    where = np.tensordot(turn, grid, 1) + middle
    where += 2.0 * np.stack([_noise(rng, size, 5) for _ in range(3)])
    return scipy.ndimage.map_coordinates(bodies, where, order=0)


def _noise(rng, size, knots):
    """Draws smooth noise [size] * 3 of about unit size."""
    coarse = rng.normal(size=(knots,) * 3)
    return scipy.ndimage.zoom(coarse, size / knots, order=1, mode="nearest")
