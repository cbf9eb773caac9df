"""Brain structures in label maps; their images are drawn in each episode.

The maps are SynthSeg's 20 training maps (Billot et al., Medical Image
Analysis, 2023; Apache 2.0), at 2 mm. An example is a cube of tissue numbers
around a structure of one subject, see `data.paint` for what becomes of it.
"""

from __future__ import annotations

import hashlib
import pathlib
import re
from typing import Any

import numpy as np

from htmaml_jax.data import cache, cubes, nifti, paint, volumes
from htmaml_jax.data.archives import folder_files, matching, stamps
from htmaml_jax.data.brains import EXPECTED, FOLDER
from htmaml_jax.data.table import Table
from htmaml_jax.data.together import SMALLEST, shown
from htmaml_jax.data.volumes import Plan
from htmaml_jax.errors import UserError

__all__ = ["EXPECTED", "FOLDER", "read"]
# FreeSurfer's numbers. Left and right stay together: they are mirror images.
# The hippocampus is kept for tests, here as in images of other sources.
_STRUCTURES = {
    "train": """2 left-white-matter 41 right-white-matter 3 left-cortex
        42 right-cortex 4 left-ventricle 43 right-ventricle
        5 left-inferior-ventricle 44 right-inferior-ventricle
        7 left-cerebellum-white 46 right-cerebellum-white
        8 left-cerebellum 47 right-cerebellum 11 left-caudate
        50 right-caudate 13 left-pallidum 52 right-pallidum
        14 third-ventricle 15 fourth-ventricle 16 brain-stem 24 csf
        26 left-accumbens 58 right-accumbens 28 left-ventral-dc
        60 right-ventral-dc""",
    "validation": """10 left-thalamus 49 right-thalamus 12 left-putamen
        51 right-putamen 18 left-amygdala 54 right-amygdala""",
    "test": "17 left-hippocampus 53 right-hippocampus",
}
SPLITS = {k: tuple(v.split()[1::2]) for k, v in _STRUCTURES.items()}
_NUMBERS = {
    int(number): name
    for text in _STRUCTURES.values()
    for number, name in zip(text.split()[::2], text.split()[1::2], strict=True)
}
_NAMES = sorted(_NUMBERS.values())  # in the order of a table's classes
# Subjects of each split, by number: none of training in the others.
_SUBJECTS = {
    "train": range(1, 13),
    "validation": range(13, 21),
    "test": range(13, 21),
}
_FILE = re.compile(r"(?:^|/)training_seg_(\d+)\.nii(?:\.gz)?$")
_SPACING = 2.0  # mm
_EACH = 3  # cubes around a structure of a subject


def read(folder: pathlib.Path, data: Any) -> Table:
    """Reads a folder of label maps, or archives in it."""
    files = folder_files(folder)
    found = matching(files, _FILE)
    if not found:
        raise UserError(f"{folder} holds no label maps; expected {EXPECTED}.")
    spacing = float(data.spacing) or _SPACING
    key = {
        "kind": "synthseg",
        "spacing": spacing,
        "side": data.side,
        "each": [_EACH, cubes.BESIDE],
        "structures": _STRUCTURES,
        "files": stamps(files, [path for _, path in found]),
    }
    arrays = cache.cached(
        key, lambda: _prepare(files, found, spacing, data.side)
    )
    plan = Plan(
        name="synthseg",
        structures=_NUMBERS,
        splits=SPLITS,
        licence="Apache 2.0",
        spacing=(spacing,) * 3,
    )
    return volumes.assemble(
        plan,
        str(folder),
        data.side,
        f"{arrays['content']} {key['each']}",
        inputs=arrays["inputs"],
        masks=arrays["masks"],
        labels=arrays["labels"].astype(np.int32),
        subjects=arrays["subjects"],
        cases=np.array([f"training_seg_{n:02}" for n in arrays["subjects"]]),
        drawn=True,
    )


def _prepare(files, found, spacing, side):
    rows: dict[str, list] = {k: [] for k in ("inputs", "masks", "labels")}
    rows["subjects"] = []
    digest = hashlib.sha256()
    split_of = {n: s for s, names in SPLITS.items() for n in names}
    position = {name: i for i, name in enumerate(_NAMES)}
    lookup = np.zeros(1 + max(paint.known()), np.uint8)
    for number, name in _NUMBERS.items():
        lookup[number] = position[name] + 1
    for subject, path in cache.show_progress(found, desc="label maps"):
        data = files[path].read()
        digest.update(data)
        volume = nifti.read(data, path)
        labels = nifti.labels_of(volume, paint.known())
        tissues, places = paint.codes(labels), lookup[labels]
        for number, name in _NUMBERS.items():
            inside = labels == number
            if int(subject) not in _SUBJECTS[split_of[name]]:
                continue
            if inside.sum() < SMALLEST:
                continue
            rng = np.random.default_rng([int(subject), number])
            centre = cubes.middle(inside, volume.affine)
            for _ in range(_EACH):
                beside = rng.uniform(-cubes.BESIDE, cubes.BESIDE, 3)
                beside *= spacing
                grid = nifti.grid_at(centre + beside, spacing, side)
                cube, parts = (
                    nifti.sample(x, volume.affine, grid, order=0)
                    for x in (tissues, places)
                )
                if position[name] + 1 not in shown(parts):
                    continue
                rows["inputs"].append(cube)
                rows["masks"].append(parts)
                rows["labels"].append(position[name])
                rows["subjects"].append(int(subject))
    if not rows["labels"]:
        raise UserError(f"{found[0][1]} shows none of the structures.")
    made = {k: np.stack(v) for k, v in rows.items()}
    return made | {"content": np.array(digest.hexdigest())}
