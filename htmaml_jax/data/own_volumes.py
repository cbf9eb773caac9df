"""Folders of annotated volumes of one's own, in two common forms.

`decathlon` is a task of the Medical Segmentation Decathlon, also as nnU-Net
(Isensee et al., Nature Methods 2021) writes it: one mask of labels a volume.
`totalsegmentator` is the tree of TotalSegmentator's data (Wasserthal et al.,
Radiology: AI 2023): a folder a volume, with a mask for each structure.
"""

from __future__ import annotations

import json
import pathlib
import re
import zlib
from collections.abc import Iterable
from typing import Any

from htmaml_jax.data.archives import Files, matching
from htmaml_jax.data.clips import recording_of
from htmaml_jax.data.table import split_classes
from htmaml_jax.data.volumes import Case, Plan
from htmaml_jax.errors import UserError

EXPECTED = {
    "decathlon": "imagesTr/, labelsTr/ and dataset.json, as in a task of the "
    "Medical Segmentation Decathlon",
    "totalsegmentator": "NAME/ct.nii.gz or NAME/mri.nii.gz, and beside it "
    "segmentations/STRUCTURE.nii.gz",
}
END = r"\.nii(?:\.gz)?$"
# Whole paths, so that what has one name in two folders shows.
_MSD = re.compile(r"^(?:.*/)?(imagesTr|labelsTr)/([^/]+?)" + END)
_SCAN = re.compile(r"^(?:.*/)?([^/]+)/(ct|mri)" + END)
_PART = re.compile(r"^(?:.*/)?([^/]+)/segmentations/([^/]+?)" + END)
_JSON = "dataset.json"
_SIDE = re.compile(r"(?:^|[-_ ])(?:left|right)(?=$|[-_ ])")
# Of the subjects of one's own data; others are for training.
SHARES = {"test": 0.3, "validation": 0.15}


def decathlon(files: Files, folder: pathlib.Path, data: Any):
    """Reads a folder of the Decathlon's form; returns (cases, plan)."""
    about = _about(files, folder)
    cases = [
        case._replace(subject=_subject(case.name, data))
        for case in pairs(files)
    ]
    kinds = about.get("modality") or about.get("channel_names")
    ct = re.search(r"\bCT\b", json.dumps(kinds), re.IGNORECASE) is not None
    name = _called(str(about.get("name", "")), folder.name)
    licence = str(about.get("licence", "unknown"))
    structures = _structures(about, folder)
    return cases, _plan(name, structures, cases, data, licence, ct)


def totalsegmentator(files: Files, folder: pathlib.Path, data: Any):
    """Reads a folder of TotalSegmentator's form; returns (cases, plan)."""
    found = matching(files, _SCAN)
    kinds = {kind for _, kind, _ in found}
    if len(kinds) > 1:
        raise UserError(
            f"{folder} holds ct.nii.gz and mri.nii.gz, whose intensities mean "
            "different things; give a folder of one kind as data.dir."
        )
    scans: dict[str, str] = {}
    for name, _, path in found:
        _once(files, scans, name, path)
    parts: dict[str, dict[str, str]] = {}
    for name, structure, path in matching(files, _PART):
        _once(files, parts.setdefault(name, {}), structure.lower(), path)
    names = sorted({one for of in parts.values() for one in of})
    cases = complete(
        Case(
            name,
            _subject(name, data),
            scans.get(name, ""),
            tuple(parts.get(name, {}).get(one, "") for one in names),
        )
        for name in sorted({*scans, *parts})
    )
    structures = dict(enumerate(names, start=1))
    name = _called(folder.name)
    ct = "ct" in kinds
    return cases, _plan(name, structures, cases, data, "unknown", ct)


def _once(files, found, name, path):
    """Notes the path of a name; two files may have it if they are alike."""
    first = files[found.setdefault(name, path)]
    if first is files[path]:
        return
    # An archive may lie beside what was taken out of it.
    if first.size != files[path].size or first.read() != files[path].read():
        raise UserError(
            f"{found[name]} and {path} have one name; give the folder of one "
            "of them as data.dir, or rename it."
        )


def _called(*names):
    """Makes the first name that has letters fit for files and tables."""
    fit = [re.sub(r"[^a-z0-9]+", "-", x.lower()).strip("-") for x in names]
    return next(filter(None, fit), "volumes")


def _plan(name, structures, cases, data, licence, ct):
    names = tuple(sorted(structures.values()))
    # What is left and right of a body looks alike: both are of one split.
    both = {name: _SIDE.sub("", name) for name in names}
    # With few structures there is only what a trained model may be tested on.
    splits, held = {"test": names}, None
    if len(set(both.values())) >= 3:
        splits = {
            split: tuple(name for name in names if both[name] in of)
            for split, of in split_classes(tuple(set(both.values()))).items()
        }
        held = split_subjects({case.subject for case in cases})
    return Plan(
        name=name,
        structures=structures,
        splits=splits,
        licence=licence,
        spacing=spacing(data, (2.0, 2.0, 2.0)),
        window=tuple(data.hounsfield) if ct else None,
        held=held,
        apart=True,
    )


def _subject(name, data):
    """Returns whose volume it is, by `data.recording` or the whole name."""
    return recording_of(data.recording or None)(pathlib.PurePosixPath(name))


def split_subjects(subjects: Iterable[str]) -> dict[str, str]:
    """Deals subjects to splits, in shares that few subjects have, too."""
    names = sorted(subjects, key=lambda name: zlib.crc32(name.encode()))
    splits = []
    for split, share in SHARES.items():
        splits += [split] * max(1, round(share * len(names)))
    splits += ["train"] * (len(names) - len(splits))
    return dict(zip(names, splits, strict=False))


def _about(files: Files, folder):
    found = [p for p in files if pathlib.PurePosixPath(p).name == _JSON]
    if not found:
        raise UserError(
            f"{folder} has no {_JSON}; expected {EXPECTED['decathlon']}."
        )
    path = min(found, key=len)
    # An archive may lie beside what was taken out of it.
    if len({files[one].read() for one in found}) > 1:
        raise UserError(
            f"{folder} has several {_JSON}: {', '.join(sorted(found))}; give "
            "the folder of one of them as data.dir."
        )
    try:
        return dict(json.loads(files[path].read()))
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{path} is no JSON object ({error}); correct it."
        ) from error


def _structures(about, folder):
    """Reads {number: name}; newer files have the names for keys."""
    labels = about.get("labels", {})
    try:
        numbered = [
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
        for number, name in numbered
        if number
    }
    if not found or len(set(found.values())) < len(found):
        raise UserError(
            f"{folder}: {_JSON} must name each label but 0 once; it has "
            f"{labels}."
        )
    return found


def pairs(files: Files) -> list[Case]:
    """Pairs imagesTr/NAME with labelsTr/NAME."""
    parts: dict[str, dict[str, str]] = {"imagesTr": {}, "labelsTr": {}}
    for part, name, path in matching(files, _MSD):
        # Images of one channel may be called NAME_0000.
        name = re.sub(r"_0000$", "", name) if part == "imagesTr" else name
        _once(files, parts[part], name, path)
    images, masks = parts.values()
    return complete(
        Case(name, name, images.get(name, ""), masks.get(name, ""))
        for name in sorted({*images, *masks})
    )


def complete(cases: Iterable[Case]) -> list[Case]:
    """Lists cases; one without an image or a mask is refused."""
    cases = list(cases)
    for case in cases:
        if not (case.image and case.masks):
            there = case.image or case.masks[0]
            kind = "mask" if case.image else "image"
            raise UserError(f"{there} has no {kind}; add it or remove this.")
    return cases


def spacing(data: Any, own: tuple[float, ...]) -> tuple[float, ...]:
    """Returns `data.spacing`, or what a data set has of its own."""
    return (float(data.spacing),) * 3 if data.spacing else own
