"""Volumes and masks of structures, as a table.

A class is one structure in one data set, an example one volume of it: a cube
of cells, and of which structures they are. Volumes are oriented to right,
front, up and resampled to a stated spacing; the cube lies over the middle of
what is annotated, whichever structure that is, or of each structure, or a few
cells beside it. So it tells roughly where to look, as a detector would.
"""

from __future__ import annotations

import collections
import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from htmaml_jax.data import cache, cubes, nifti
from htmaml_jax.data.archives import Files, stamps
from htmaml_jax.data.table import Masks, Table, renumbered
from htmaml_jax.data.together import shown
from htmaml_jax.errors import UserError


class Case(NamedTuple):
    """A volume and its mask.

    Attributes:
      name: for people.
      subject: whose it is; one subject is never in support and query.
      image: path among the files.
      mask: the same, of labels; or one of each structure of the plan, in its
        order, "" where the volume has none.
    """

    name: str
    subject: str
    image: str
    mask: str | tuple[str, ...]

    @property
    def masks(self) -> list[str]:
        """Paths of all masks that there are."""
        paths = [self.mask] if isinstance(self.mask, str) else self.mask
        return [path for path in paths if path]


class Plan(NamedTuple):
    """How a data set becomes a table.

    Attributes:
      name: of the table.
      structures: label in the masks -> name of the class.
      splits: split name -> class names.
      licence: as its publisher states it.
      spacing: [3] of a cell, in `unit`.
      unit: "mm", or "voxels" where the size of these is unknown.
      window: of Hounsfield units, or None for percentiles.
      held: subjects -> the only split that may have them; others may be in
        any.
      apart: every structure has a cube of its own, as they may be far from
        each other; else one lies over the middle of all.
    """

    name: str
    structures: Mapping[int, str]
    splits: Mapping[str, tuple[str, ...]]
    licence: str
    spacing: tuple[float, ...]
    unit: str = "mm"
    window: tuple[float, float] | None = None
    held: Mapping[str, str] | None = None
    apart: bool = False


def table(
    files: Files, cases: Sequence[Case], plan: Plan, side: int, origin: str
) -> Table:
    """Makes the table of some cases, prepared arrays cached on disk.

    Raises:
      UserError: a file that cannot be used, by name.
    """
    if not cases:
        raise UserError(f"{origin} holds no volumes with masks.")
    paths = sorted({p for case in cases for p in (case.image, *case.masks)})
    key = {
        "kind": "cubes of volumes, and what has none",
        "plan": [
            plan.name,
            plan.spacing,
            plan.window,
            plan.apart,
            cubes.BESIDE,
        ],
        "structures": list(plan.structures.items()),
        "side": side,
        "files": stamps(files, paths),
    }
    found = cache.cached(key, lambda: _prepare(files, cases, plan, side))
    for said in found["left_out"]:
        print(f"left out: {said}", flush=True)
    classes = tuple(sorted(set(plan.structures.values())))
    position = {name: i for i, name in enumerate(classes)}
    every = list(plan.structures.values())
    names = [every[place] for place in found["labels"]]
    split_of = {c: s for s, of in plan.splits.items() for c in of}
    subjects = [cases[i].subject for i in found["cases"]]
    held = plan.held or {}
    # A class without a split is left out, as is a subject of another split.
    kept = np.array(
        [
            n in split_of and held.get(s, split_of[n]) == split_of[n]
            for n, s in zip(names, subjects, strict=True)
        ],
        bool,
    )
    if not kept.any():
        raise UserError(f"{origin}: no mask shows a structure of a split.")
    return assemble(
        plan,
        origin,
        side,
        str(found["content"]),
        inputs=found["inputs"][kept],
        masks=renumbered(
            found["masks"][kept], [position[name] for name in every]
        ),
        labels=np.array([position[n] for n in names], np.int32)[kept],
        subjects=np.array(subjects)[kept],
        cases=np.array([cases[i].name for i in found["cases"]])[kept],
    )


def assemble(
    plan: Plan,
    origin: str,
    side: int,
    content: str,
    inputs: np.ndarray,
    masks: np.ndarray,
    labels: np.ndarray,
    subjects: np.ndarray,
    cases: np.ndarray,
    drawn: bool = False,
) -> Table:
    """Puts prepared arrays [M, ...] into a table; see `Table`, `Masks`.

    A structure that nothing shows is left out of its split.
    """
    classes = tuple(sorted(set(plan.structures.values())))
    shown = {classes[label] for label in labels}
    splits = {
        split: tuple(name for name in names if name in shown)
        for split, names in plan.splits.items()
    }
    _, recordings = np.unique(subjects, return_inverse=True)
    count = len(labels)
    spacing = np.broadcast_to(np.float32(plan.spacing), (count, 3))
    settings = {
        "side": side,
        "spacing": list(plan.spacing),
        "unit": plan.unit,
        "window": plan.window,
    }
    return Table(
        name=plan.name,
        origin=origin,
        inputs=inputs[..., None],
        labels=labels,
        recordings=recordings.astype(np.int32),
        classes=classes,
        splits={split: names for split, names in splits.items() if names},
        licence=plan.licence,
        front_end=settings,
        kind="volumes",
        # Resampling rounds differently from machine to machine.
        content=f"{content} {sorted(settings.items())}",
        masks=Masks(
            masks,
            np.full(count, drawn),
            spacing.copy(),
            np.full(count, plan.unit),
            cases,
        ),
    )


def _prepare(files, cases, plan, side):
    """Returns arrays, one row per case and structure that it shows.

    Structures are numbered by their places in the plan, in masks from 1.
    """
    rows: dict[str, list] = {k: [] for k in ("inputs", "masks", "labels")}
    rows["cases"], wide, small = [], {}, collections.Counter()
    digest = hashlib.sha256()
    # A file that cannot be used is named before work is done on any.
    for case in cache.show_progress(cases, desc="checking"):
        read_case(files, case, plan)
    for i, case in cache.show_progress(list(enumerate(cases)), desc="volumes"):
        data, image, mask = read_case(files, case, plan)
        for part in data:
            digest.update(part)
        labels = mask.data
        if not labels.any():
            continue
        bright = image._replace(data=nifti.level(image, plan.window))
        for grid, asked in cubes.grids(mask, case.name, plan, side, wide):
            near, drawn = bright, mask
            if plan.apart:
                near, drawn = (nifti.around(x, grid) for x in (bright, mask))
            patch = nifti.sample(near.data, near.affine, grid)
            patch = np.rint(255 * np.clip(patch, 0, 1)).astype(np.uint8)
            parts = cubes.numbered(drawn, grid, plan.structures)
            there = shown(parts) - 1
            for place in np.setdiff1d(asked, there):
                number = list(plan.structures)[place]
                small[plan.structures[number]] += number in labels
            for place in np.intersect1d(there, asked):
                rows["inputs"].append(patch)
                rows["masks"].append(parts)
                rows["labels"].append(place)
                rows["cases"].append(i)
    said = [cubes.too_wide(*item, plan, side) for item in wide.items()]
    said += [cubes.too_small(*item, plan) for item in (+small).items()]
    if said and not rows["labels"]:
        raise UserError(f"{cases[0].image} and others: {'; '.join(said)}.")
    if not rows["labels"]:
        raise UserError(
            f"{cases[0].masks[0]} and the other masks show none of "
            f"{', '.join(plan.structures.values())}."
        )
    made = {k: np.stack(v) for k, v in rows.items()}
    made["left_out"] = np.array(said, str)
    return made | {"content": np.array(digest.hexdigest())}


def read_case(
    files: Files, case: Case, plan: Plan
) -> tuple[list[bytes], nifti.Volume, nifti.Volume]:
    """Returns the bytes of image and mask, the image, the mask's labels.

    Raises:
      UserError: either cannot be used, or they do not fit each other.
    """
    data = [files[case.image].read()]
    image = nifti.read(data[0], case.image)
    if isinstance(case.mask, str):
        masks = {0: case.mask}
    else:
        masks = dict(zip(plan.structures, case.mask, strict=True))
    labels = np.zeros(image.data.shape, np.int32)
    # One after the other: a hundred whole masks fill a memory.
    for number, path in masks.items():
        if not path:
            continue
        data.append(files[path].read())
        mask = nifti.read(data[-1], path)
        nifti.check_pair(image, mask)
        found = nifti.labels_of(mask, {1} if number else plan.structures)
        labels[found > 0] = number or found[found > 0]
    return data, image, image._replace(data=labels, name=case.masks[0])
