"""Intents: four collections of requests, and the folds of their classes.

BANKING77 (Casanueva et al., 2020), CLINC150 (Larson et al., 2019), HWU64 and
Liu (both of Liu et al., 2019). Classes are split as in ProtAugment (Dopierre
et al., ACL 2021), five folds, each with classes of its own for training,
validation and test. Fold 0 is all classes, to test on: what a model of another
collection makes of the whole set of labels at once.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Iterable
from typing import Any

from htmaml_jax.data import texts
from htmaml_jax.data.table import Table
from htmaml_jax.data.texts import (
    Labelled,
    json_lines,
    read_text,
    table,
    table_rows,
)
from htmaml_jax.errors import UserError

FOLDER = "text_intent"
FOLDS = range(1, 6)
# Name here -> name in ProtAugment's repository.
SETS = {
    "banking77": "BANKING77",
    "clinc150": "OOS",
    "hwu64": "HWU64",
    "liu": "Liu",
}
EXPECTED = (
    "banking77/ (of PolyAI-LDN/task-specific-datasets), clinc150/ (of "
    "clinc/oos-eval), hwu64/ (of jianguoz/Few-Shot-Intent-Detection) and "
    "protaugment_splits/ (of tdopierre/ProtAugment), as on GitHub"
)
_SPLITS = {"train": "train", "validation": "valid", "test": "test"}


def read(folder: pathlib.Path, data: Any) -> Table:
    """Reads one collection and one fold.

    Args:
      folder: holds `EXPECTED`, or a folder with that in it.
      data: the config group; `name`, `fold`, `encoder` and `size` matter.
    """
    if (folder / FOLDER).is_dir():
        folder = folder / FOLDER
    if data.fold not in (0, *FOLDS):
        raise UserError(
            f"data.fold is {data.fold}; there are 1 to 5, and 0 for all "
            "classes as test classes."
        )
    found = _READERS[data.name](folder)
    splits = {"test": tuple(sorted(set(found.labels)))}
    if data.fold:
        splits = _fold(folder, data.name, data.fold)
    known = set(found.labels)
    for names in splits.values():
        if missing := set(names) - known:
            raise UserError(
                f"{folder}: fold {data.fold} of {data.name} names the class "
                f"{min(missing)!r}, which has no texts; copy the data again."
            )
    part = f"fold{data.fold}" if data.fold else "all"
    name = f"intent-{data.name}-{part}"
    made = table(found, name, splits, data)
    if data.name != "clinc150":
        return made
    strange = clinc(folder, ("oos_test",)).texts
    outside, _ = texts.inputs(strange, data)
    return dataclasses.replace(made, outside=outside)


def _fold(folder, name, fold):
    where = folder / "protaugment_splits" / "data" / SETS[name]
    splits = {}
    for split, mark in _SPLITS.items():
        text = read_text(where / f"few_shot/0{fold}/labels.{mark}.txt")
        # HWU64 has a slash where its texts have a low line.
        names = [x.strip().replace("/", "_") for x in text.splitlines()]
        splits[split] = tuple(sorted(filter(None, names)))
    return splits


def _banking(folder: pathlib.Path) -> Labelled:
    texts, labels = [], []
    for part in ("train", "test"):
        path = folder / "banking77" / "banking_data" / f"{part}.csv"
        for row in table_rows(read_text(path), path):
            texts.append(_of(row, "text", path))
            labels.append(_of(row, "category", path))
    return Labelled(texts, labels, str(folder / "banking77"), "CC BY 4.0")


def clinc(
    folder: pathlib.Path, parts: Iterable[str] = ("train", "val", "test")
) -> Labelled:
    """Reads parts of CLINC150; "oos_test" and the like are out of scope."""
    path = folder / "clinc150" / "data" / "data_full.json"
    try:
        found = json.loads(read_text(path))
    except ValueError as error:
        raise UserError(f"{path} is no JSON ({error}).") from error
    rows = [row for part in parts for row in _of(found, part, path)]
    return Labelled(
        [row[0] for row in rows],
        [row[1] for row in rows],
        str(folder / "clinc150"),
        "CC BY 3.0",
    )


def _hwu(folder: pathlib.Path) -> Labelled:
    texts, labels = [], []
    for part in ("train", "valid", "test"):
        where = folder / "hwu64" / "Datasets" / "HWU64" / part
        mine = read_text(where / "seq.in").splitlines()
        names = read_text(where / "label").splitlines()
        if len(mine) != len(names):
            raise UserError(
                f"{where}: {len(mine)} texts but {len(names)} labels; copy "
                "the data again."
            )
        texts += mine
        labels += names
    return Labelled(texts, labels, str(folder / "hwu64"), "CC BY 4.0")


def _liu(folder: pathlib.Path) -> Labelled:
    path = folder / "protaugment_splits" / "data" / "Liu" / "full.jsonl"
    rows = json_lines(read_text(path), path)
    return Labelled(
        [_of(row, "sentence", path) for row in rows],
        [_of(row, "label", path) for row in rows],
        str(path.parent),
        "CC BY 4.0",
    )


def _of(row, key, path):
    if not row.get(key):
        raise UserError(f"{path} has an entry without {key}; copy it again.")
    return row[key]


_READERS = {
    "banking77": _banking,
    "clinc150": clinc,
    "hwu64": _hwu,
    "liu": _liu,
}
