"""Omniglot: 1623 handwritten characters, 20 drawings of each.

Lake, Salakhutdinov and Tenenbaum, Science 350, 2015 (MIT). As usual each
character's quarter turns are classes of their own. Splits are those of Vinyals
et al. (2016) where their lists lie beside the pictures (train.txt, val.txt,
test.txt with lines Alphabet/character01/rot090), else Lake's own: 964 and 659
characters, of which the last five alphabets of the first are for validation.
"""

from __future__ import annotations

import io
import pathlib
import re
from collections.abc import Mapping

import numpy as np
from PIL import Image

from htmaml_jax.data import cache
from htmaml_jax.data.archives import Files, folder_files, matching, stamps
from htmaml_jax.data.audio import FrontEnd
from htmaml_jax.data.table import Table
from htmaml_jax.errors import UserError

FOLDER = "omniglot"
MARKS = ("omniglot_images.zip", "images_background", "images_background.zip")
EXPECTED = (
    "images_background and images_evaluation, or their archives, of "
    "https://github.com/brendenlake/omniglot/tree/master/python"
)
_PICTURE = re.compile(
    r"(?:^|/)images_(background|evaluation)/([^/]+)/([^/]+)/[^/]+\.png$"
)
_LISTS = {"train": "train.txt", "validation": "val.txt", "test": "test.txt"}
_TURNS = ("rot000", "rot090", "rot180", "rot270")
_HELD_ALPHABETS = 5


def read(folder: pathlib.Path, front: FrontEnd) -> Table:
    """Reads a folder; of `front` only the size of pictures matters.

    Ink is 1 on a ground of 0. Every drawing is a recording of its own.
    """
    if front.rows != front.columns or front.channels != 1:
        raise UserError(
            "Omniglot is turned by quarters and gray: data.rows and "
            "data.columns must be equal and data.channels 1."
        )
    files = folder_files(folder)
    found = matching(files, _PICTURE)
    if not found:
        raise UserError(f"{folder} holds no pictures; expected {EXPECTED}.")
    part_of = {f"{row[1]}/{row[2]}": row[0] for row in found}
    upright, splits = sorted(part_of), _vinyals(files)
    kind = "vinyals" if splits else "lake"
    splits = splits or _lake(part_of)
    classes = tuple(f"{name}/{turn}" for name in upright for turn in _TURNS)
    unknown = {c for some in splits.values() for c in some} - set(classes)
    if unknown:
        raise UserError(
            f"{folder}: {len(unknown)} classes of the split lists have no "
            f"pictures, first {min(unknown)}; copy the data again."
        )
    names = [row[3] for row in found]
    key = {
        "kind": "omniglot",
        "size": front.rows,
        "files": stamps(files, names),
    }
    pictures = cache.cached(
        key, lambda: {"inputs": _pictures(files, names, front.rows)}
    )["inputs"]
    position = {name: i for i, name in enumerate(upright)}
    label = np.array([position[f"{row[1]}/{row[2]}"] for row in found])
    turned = [np.rot90(pictures, k, axes=(1, 2)) for k in range(4)]
    inputs = np.stack(turned, axis=1).reshape(-1, *pictures.shape[1:])
    labels = (4 * label[:, None] + np.arange(4)).reshape(-1)
    return Table(
        name="omniglot" if kind == "vinyals" else "omniglot-lake",
        origin=str(folder),
        inputs=inputs,
        labels=labels.astype(np.int32),
        recordings=np.arange(len(labels), dtype=np.int32),
        classes=classes,
        splits=splits,
        licence="MIT",
        front_end={"size": front.rows, "split": kind},
    )


def _pictures(files: Files, names: list[str], size: int) -> np.ndarray:
    """Reads and shrinks pictures to [M, size, size, 1] uint8."""
    out = np.empty((len(names), size, size, 1), np.uint8)
    for i, name in enumerate(cache.show_progress(names)):
        data = io.BytesIO(files[name].read())
        try:
            picture = Image.open(data).convert("L")
        except OSError as error:
            raise UserError(
                f"{name} is no whole picture ({error}); copy the data again."
            ) from error
        small = picture.resize((size, size), Image.Resampling.BILINEAR)
        out[i, ..., 0] = 255 - np.asarray(small)
    return out


def _vinyals(files: Files) -> dict[str, tuple[str, ...]] | None:
    """Reads the three lists, or None where they are not all there."""
    splits = {}
    for split, name in _LISTS.items():
        paths = [p for p in files if pathlib.PurePath(p).name == name]
        if not paths:
            return None
        text = files[min(paths, key=len)].read().decode("utf-8", "replace")
        splits[split] = tuple(sorted(text.split()))
    every = [name for names in splits.values() for name in names]
    if len(set(every)) < len(every):
        raise UserError(
            "train.txt, val.txt and test.txt share a class or name one "
            "twice; copy the lists again."
        )
    return splits


def _lake(part_of: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Splits by Lake's two folders: names -> "background" or "evaluation"."""
    alphabets = sorted(
        {n.split("/")[0] for n, part in part_of.items() if part == "background"}
    )
    held = set(alphabets[-_HELD_ALPHABETS:])
    splits: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    for name, part in sorted(part_of.items()):
        split = "validation" if name.split("/")[0] in held else "train"
        split = "test" if part == "evaluation" else split
        splits[split] += [f"{name}/{turn}" for turn in _TURNS]
    return {split: tuple(names) for split, names in splits.items()}
