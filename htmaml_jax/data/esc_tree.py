"""Lists the clips of ESC-50 and ESC-10 trees and archives, without TFDS.

A tree is what an archive extracts to; archives are read without being
extracted.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import re

from htmaml_jax.data.archives import File, Files
from htmaml_jax.data.esc import CLASSES
from htmaml_jax.errors import UserError

# Class folder number in ESC-10 -> target number in ESC-50.
TARGETS = dict(
    zip(range(1, 11), (0, 10, 11, 20, 38, 21, 40, 41, 1, 12), strict=True)
)
_ESC10_FILE = re.compile(r"(?:^|/)(\d{3}) - [^/]+/((\d)-(\d+)-[^/]*\.ogg)$")
_ESC10_CLIPS = 40  # of each class


@dataclasses.dataclass(frozen=True)
class Clip:
    """One sound file and what its data set says about it."""

    filename: str
    label: str
    recording: str
    fold: int
    file: File


def _rows(files: Files, end: str) -> tuple[str, list[dict[str, str]]] | None:
    """Reads the csv whose path ends so; returns the path before, and rows."""
    found = [n for n in files if n == end or n.endswith("/" + end)]
    if not found:
        return None
    name = min(found, key=len)
    text = files[name].read().decode("utf-8-sig")
    return name[: -len(end)], list(csv.DictReader(io.StringIO(text)))


def _pick(files: Files, names: list[str], where: str, tree: str) -> list[File]:
    """Returns the files of these names, or says which are missing."""
    missing = [name for name in names if name not in files]
    if missing:
        raise UserError(
            f"{where}: {missing[0]} is missing, the first of {len(missing)} "
            f"missing among {len(names)} files; extract the whole archive "
            f"again. Expected: {tree}."
        )
    return [files[name] for name in names]


def esc50_clips(
    files: Files, where: str, tree: str, only_esc10: bool = False
) -> list[Clip] | None:
    """Lists the clips of an ESC-50 tree; None where there is no such tree."""
    found = _rows(files, "meta/esc50.csv")
    if found is None:
        return None
    base, rows = found
    try:
        rows = [r for r in rows if not only_esc10 or r["esc10"] == "True"]
        names = [f"{base}audio/{row['filename']}" for row in rows]
        picked = _pick(files, names, where, tree)
        return [
            Clip(
                row["filename"],
                row["category"],
                row["src_file"],
                int(row["fold"]),
                file,
            )
            for row, file in zip(rows, picked, strict=True)
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{where}: {base}meta/esc50.csv is damaged ({error!r}); extract "
            f"the whole archive again. Expected: {tree}."
        ) from error


def esc10_clips(files: Files, where: str, tree: str) -> list[Clip] | None:
    """Lists the clips of an ESC-10 tree, or those of ESC-50 marked so."""
    esc50 = esc50_clips(files, where, tree, only_esc10=True)
    if esc50 is not None:
        return esc50
    base, rows = _rows(files, "meta.csv") or ("", [])
    listed = bool(rows) and "esc10_class" in rows[0]
    if listed:
        # The csv may lie beside an archive or in the extracted folder.
        names = [row.get("file") or "" for row in rows]
        if not any(name in files for name in names):
            names = [base + name for name in names]
        _pick(files, names, where, tree)
    else:
        names = [name for name in files if _ESC10_FILE.search(name)]
    clips: dict[str, Clip] = {}
    for name in names:
        match = _ESC10_FILE.search(name)
        if match is None or int(match[1]) not in TARGETS:
            raise UserError(
                f"{where}: {name} is no ESC-10 file; expected: {tree}."
            )
        label = CLASSES[TARGETS[int(match[1])]]
        clip = Clip(match[2], label, match[4], int(match[3]), files[name])
        clips[f"{label}/{match[2]}"] = clip
    if not clips:
        return None
    if not listed:
        for number, target in TARGETS.items():
            here = sum(c.label == CLASSES[target] for c in clips.values())
            if here < _ESC10_CLIPS:
                raise UserError(
                    f"{where}: class folder {number:03d} ({CLASSES[target]}) "
                    f"holds {here} of {_ESC10_CLIPS} clips; extract the whole "
                    f"archive again. Expected: {tree}."
                )
    return [clips[key] for key in sorted(clips)]


def digest(clips: list[Clip]) -> str:
    """Returns 16 hex digits that change with any clip's name or size."""
    lines = sorted(f"{c.label} {c.filename} {c.file.size}" for c in clips)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
