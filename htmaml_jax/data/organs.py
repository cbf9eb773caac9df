"""Readers of data sets of volumes: what lies where, and how it is split.

`hippocampus` is Task04 of the Medical Segmentation Decathlon (Antonelli et
al., Nature Communications 2022), `acdc` cine MR of the heart (Bernard et al.,
IEEE TMI 2018), `spinalcord` one subject of the Spinal Cord Toolbox in four
contrasts (De Leener et al., NeuroImage 2017). For folders of one's own see
`own_volumes`.
"""

from __future__ import annotations

import pathlib
import re
from typing import Any

from htmaml_jax.data import own_volumes, places, shapes, synthseg, volumes
from htmaml_jax.data.archives import Files, folder_files, matching
from htmaml_jax.data.own_volumes import END, complete, pairs, spacing
from htmaml_jax.data.table import Table
from htmaml_jax.data.volumes import Case, Plan
from htmaml_jax.errors import UserError

FOLDERS = {
    "hippocampus": "med3d_msd_hippocampus",
    "acdc": "med3d_acdc",
    "spinalcord": "med3d_spinalcord_sct",
    "synthseg": synthseg.FOLDER,
}
# What results call them: ACDC's test is its right ventricle.
BENCHMARKS = {
    "hippocampus": "seg3d-hippocampus",
    "acdc": "seg3d-acdc-rv",
    "spinalcord": "seg3d-spinalcord",
}
EXPECTED = {
    "hippocampus": "imagesTr/ and labelsTr/ of Task04_Hippocampus of the "
    "Medical Segmentation Decathlon, or an archive of them",
    "acdc": "images/ and labels/ with patient001_frame01.nii.gz, the original "
    "tree of ACDC, or an archive of one of them",
    "spinalcord": "t1/, t2/, t2s/ and mt/ of "
    "https://github.com/neuropoly/sct_testing_data",
    **own_volumes.EXPECTED,
}
_ACDC = re.compile(
    r"(?:^|/)(images|labels|patient\d+)/(patient(\d+)_frame\d+)(_gt|)" + END
)
_SPINE = re.compile(r"(?:^|/)(t1|t2|t2s|mt)/([^/]+?)" + END)
# Every third patient is one of the test's: each kind of disease is a block
# of 20 numbers.
_HELD = 3


def load(data: Any) -> Table:
    """Loads the data set that `data.name` names.

    It lies in data.dir or else $HTMAML_DATA, or in a folder of its own there;
    drawn bodies lie nowhere.
    """
    if data.name == "shapes":
        return shapes.read(data)
    drawn = data.name == "synthseg"
    expected = synthseg.EXPECTED if drawn else EXPECTED[data.name]
    root, shared = places.given(data.dir, data.name, expected)
    inside = root / FOLDERS.get(data.name, "")
    folder = inside if inside.is_dir() else root
    if drawn:
        table = synthseg.read(folder, data)
    else:
        files = folder_files(folder)
        cases, plan = find(data.name, files, folder, data)
        table = volumes.table(files, cases, plan, data.side, str(folder))
    return places.travelling(table, root) if shared else table


def find(
    name: str, files: Files, folder: pathlib.Path, data: Any
) -> tuple[list[Case], Plan]:
    """Lists the volumes of one of `EXPECTED`, and how they make a table.

    Raises:
      UserError: there are none, or one has no mask.
    """
    cases, plan = _READERS[name](files, folder, data)
    if not cases:
        raise UserError(
            f"{folder} holds no {name} data; expected {EXPECTED[name]}."
        )
    return cases, plan


def _hippocampus(files, folder, data):
    plan = Plan(
        name="hippocampus",
        structures={1: "anterior-hippocampus", 2: "posterior-hippocampus"},
        splits={"test": ("anterior-hippocampus", "posterior-hippocampus")},
        licence="CC BY-SA 4.0",
        spacing=spacing(data, (1.6, 1.6, 1.6)),
    )
    return pairs(files), plan


def _acdc(files, folder, data):
    found: dict[str, list[str]] = {}
    for part, name, number, truth, path in matching(files, _ACDC):
        one = found.setdefault(name, ["", "", number])
        one[truth != "" or part == "labels"] = path
    cases = complete(
        Case(name, f"patient{number}", image, mask)
        for name, (image, mask, number) in sorted(found.items())
    )
    held = {
        c.subject: "train" if int(c.subject[7:]) % _HELD else "test"
        for c in cases
    }
    # Resized volumes no longer say how large their voxels are.
    resized = any(p.startswith("labels/") or "/labels/" in p for p in files)
    plan = Plan(
        name="acdc",
        structures={1: "RV", 2: "MYO", 3: "LV"},
        splits={"train": ("LV", "MYO"), "test": ("RV",)},
        licence="CC BY-NC-SA 4.0",
        spacing=spacing(data, (1.5, 1.5, 0.5) if resized else (4.5, 4.5, 5)),
        unit="voxels" if resized else "mm",
        held=held,
    )
    return cases, plan


def _spinalcord(files, folder, data):
    found: dict[str, dict[str, str]] = {}
    for contrast, name, path in matching(files, _SPINE):
        if name.endswith(("_seg", "_seg-manual")):
            found.setdefault(contrast, {})["mask"] = path
        elif "_" not in name:
            found.setdefault(contrast, {})["image"] = path
    # One subject: what may not be in support and query alike is a contrast.
    cases = complete(
        Case(contrast, contrast, one.get("image", ""), one.get("mask", ""))
        for contrast, one in sorted(found.items())
    )
    plan = Plan(
        name="spinalcord",
        structures={1: "spinal-cord"},
        splits={"test": ("spinal-cord",)},
        licence="MIT",
        spacing=spacing(data, (1.0, 1.0, 1.0)),
    )
    return cases, plan


_READERS = {
    "hippocampus": _hippocampus,
    "acdc": _acdc,
    "spinalcord": _spinalcord,
    "decathlon": own_volumes.decathlon,
    "totalsegmentator": own_volumes.totalsegmentator,
}
