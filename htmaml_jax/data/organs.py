"""Readers of data sets of volumes: what lies where, and how it is split.

`hippocampus` is Task04 of the Medical Segmentation Decathlon (Antonelli et
al., Nature Communications 2022), `acdc` cine MR of the heart (Bernard et al.,
IEEE TMI 2018), `spinalcord` one subject of the Spinal Cord Toolbox in four
contrasts (De Leener et al., NeuroImage 2017), `decathlon` any folder of the
Decathlon's form.
"""

from __future__ import annotations

import json
import pathlib
import re
import zlib
from typing import Any

from htmaml_jax.data import places, synthseg, volumes
from htmaml_jax.data.archives import Files, folder_files, matching
from htmaml_jax.data.table import Table, split_classes
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
    "decathlon": "imagesTr/, labelsTr/ and dataset.json, as in a task of the "
    "Medical Segmentation Decathlon",
}
_END = r"\.nii(?:\.gz)?$"
_MSD = re.compile(r"(?:^|/)(imagesTr|labelsTr)/([^/]+?)" + _END)
_ACDC = re.compile(
    r"(?:^|/)(images|labels|patient\d+)/(patient(\d+)_frame\d+)(_gt|)" + _END
)
_SPINE = re.compile(r"(?:^|/)(t1|t2|t2s|mt)/([^/]+?)" + _END)
_JSON = "dataset.json"
# Of the subjects of one's own data.
SPLIT_SHARES = {"test": 0.3, "validation": 0.15, "train": 0.55}
# Every third patient is one of the test's: each kind of disease is a block
# of 20 numbers.
_HELD = 3


def load(data: Any) -> Table:
    """Loads the data set that `data.name` names.

    It lies in data.dir or else $HTMAML_DATA, or in a folder of its own there.
    """
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
        spacing=_spacing(data, (1.6, 1.6, 1.6)),
    )
    return _pairs(files), plan


def _decathlon(files, folder, data):
    about = _about(files, folder)
    structures = _structures(about, folder)
    names = tuple(sorted(structures.values()))
    cases = _pairs(files)
    # With few structures there is only what a trained model may be tested on.
    splits, held = {"test": names}, None
    if len(names) >= 3:
        splits = split_classes(names)
        held = {case.subject: _split_of(case.subject) for case in cases}
    scan = " ".join(map(str, dict(about.get("modality", {})).values()))
    plan = Plan(
        name=str(about.get("name", folder.name)).lower().replace(" ", "-"),
        structures=structures,
        splits=splits,
        licence=str(about.get("licence", "unknown")),
        spacing=_spacing(data, (2.0, 2.0, 2.0)),
        window=tuple(data.hounsfield) if "CT" in scan.upper() else None,
        held=held,
    )
    return cases, plan


def _split_of(subject):
    """Draws the split of a subject, by its name alone."""
    share = zlib.crc32(subject.encode()) / 2**32
    for split, part in SPLIT_SHARES.items():
        if share < part:
            return split
        share -= part
    return split


def _about(files: Files, folder):
    found = [p for p in files if pathlib.PurePosixPath(p).name == _JSON]
    if not found:
        raise UserError(
            f"{folder} has no {_JSON}; expected {EXPECTED['decathlon']}."
        )
    path = min(found, key=len)
    try:
        return dict(json.loads(files[path].read()))
    except ValueError as error:
        raise UserError(f"{path} is no JSON ({error}); correct it.") from error


def _structures(about, folder):
    """Reads {number: name}; newer files have the names for keys."""
    labels = about.get("labels", {})
    try:
        pairs = [
            (int(k), str(v)) if str(k).isdigit() else (int(v), str(k))
            for k, v in dict(labels).items()
        ]
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{folder}: labels of {_JSON} are not numbers with names "
            f"({labels}); correct it."
        ) from error
    found = {
        number: name.strip().lower().replace(" ", "-")
        for number, name in pairs
        if number
    }
    if not found or len(set(found.values())) < len(found):
        raise UserError(
            f"{folder}: {_JSON} must name each label but 0 once; it has "
            f"{labels}."
        )
    return found


def _pairs(files: Files) -> list[Case]:
    """Pairs imagesTr/NAME with labelsTr/NAME."""
    found: dict[str, dict[str, str]] = {}
    for part, name, path in matching(files, _MSD):
        # Images of one channel may be called NAME_0000.
        name = re.sub(r"_0000$", "", name) if part == "imagesTr" else name
        found.setdefault(name, {})[part] = path
    return _complete(
        (Case(name, name, one.get("imagesTr", ""), one.get("labelsTr", "")))
        for name, one in sorted(found.items())
    )


def _complete(cases):
    cases = list(cases)
    for case in cases:
        if not (case.image and case.mask):
            there = case.image or case.mask
            kind = "mask" if case.image else "image"
            raise UserError(f"{there} has no {kind}; add it or remove this.")
    return cases


def _acdc(files, folder, data):
    found: dict[str, list[str]] = {}
    for part, name, number, truth, path in matching(files, _ACDC):
        one = found.setdefault(name, ["", "", number])
        one[truth != "" or part == "labels"] = path
    cases = _complete(
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
        spacing=_spacing(data, (1.5, 1.5, 0.5) if resized else (4.5, 4.5, 5)),
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
    cases = _complete(
        Case(contrast, contrast, one.get("image", ""), one.get("mask", ""))
        for contrast, one in sorted(found.items())
    )
    plan = Plan(
        name="spinalcord",
        structures={1: "spinal-cord"},
        splits={"test": ("spinal-cord",)},
        licence="MIT",
        spacing=_spacing(data, (1.0, 1.0, 1.0)),
    )
    return cases, plan


def _spacing(data, own):
    return (float(data.spacing),) * 3 if data.spacing else own


_READERS = {
    "hippocampus": _hippocampus,
    "acdc": _acdc,
    "spinalcord": _spinalcord,
    "decathlon": _decathlon,
}
