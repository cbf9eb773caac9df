"""Texts as examples: what a network is given of them, and one's own files.

Three forms. `data.encoder` is "ngrams", ids of hashed n-grams for the built-in
network, or a sentence encoder, by its name or folder: texts are its vectors,
made once, or with `data.tokens` its tokens, for the encoder as base network.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from htmaml_jax.config import NGRAMS, form
from htmaml_jax.data import ngrams, sentence
from htmaml_jax.data.table import (
    QUERY,
    SUPPORT,
    Table,
    numbered,
    split_classes,
)
from htmaml_jax.errors import UserError

EXPECTED = "a .csv or .tsv with columns text and label, or a .jsonl with both"
_LINES = (".csv", ".tsv", ".jsonl")


class Labelled(NamedTuple):
    """Texts of one data set.

    Attributes:
      texts: [M].
      labels: [M] class names.
      origin: where they came from.
      licence: as their publisher states it.
    """

    texts: list[str]
    labels: list[str]
    origin: str
    licence: str


def inputs(
    texts: Sequence[str], data: Any, keep: bool = True
) -> tuple[np.ndarray, dict]:
    """Turns texts into what the network is given.

    Args:
      texts: any, in any script; an empty one is a text, too.
      data: the config group; `encoder`, `size` and `tokens` matter.
      keep: vectors in the cache, and take them from there.

    Returns:
      Inputs [M, size], and the settings that made them.

    Raises:
      UserError: the encoder is missing, its vectors have another size, or it
        does not read so many tokens.
    """
    if not data.tokens and data.encoder == NGRAMS:
        made, cut = ngrams.inputs(texts, data.size)
        settings = {"encoder": NGRAMS, "length": data.size, "stamp": NGRAMS}
        return made, {**settings, "cut": int(cut.sum())}
    encoder = sentence.load(data.encoder, data.size if data.tokens else 0)
    if data.tokens and not 3 <= data.size <= encoder.length:
        raise UserError(
            f"data.size is {data.size}, but {data.encoder} reads 3 to "
            f"{sentence.load(data.encoder).length} tokens; choose of these."
        )
    vectors = encoder.cached if keep else encoder
    made, cut = (encoder.padded if data.tokens else vectors)(texts)
    if made.shape[1] != data.size:
        raise UserError(
            f"data.size is {data.size}, but vectors of {data.encoder} have "
            f"{made.shape[1]} numbers; set it to that."
        )
    settings = {
        "encoder": encoder.name,
        "length": encoder.length,
        "stamp": encoder.stamp,
        "cut": int(cut.sum()),
    }
    return made, settings


def table(
    found: Labelled,
    name: str,
    splits: Mapping[str, tuple[str, ...]] | None,
    data: Any,
) -> Table:
    """Makes the example table of a data set.

    Texts that are alike but for case, blanks and what Unicode counts as
    compatible are one recording: the query of a task never repeats its support.

    Args:
      found: the texts.
      name: of the data, as in results.
      splits: split name -> class names; by a hash of the names if None.
      data: see `inputs`; with `label_names` the name of a class is one more
        example in all its support sets.
    """
    classes = tuple(sorted(set(found.labels)))
    position = {name: i for i, name in enumerate(classes)}
    labels = [position[label] for label in found.labels]
    texts, uses, named_by = list(found.texts), None, None
    if data.label_names:
        named_by = np.arange(len(classes), dtype=np.int32) + len(texts)
        texts += [words(name) for name in classes]
        labels += range(len(classes))
    plain = [ngrams.plain(text) for text in texts]
    recordings = numbered(plain)
    if named_by is not None:
        # A text that is the name of a class is known from all supports.
        told = np.isin(recordings, recordings[named_by])
        uses = np.where(told, SUPPORT, SUPPORT | QUERY).astype(np.uint8)
        uses[named_by] = 0
    made, settings = inputs(texts, data)
    content = json.dumps([texts, settings["stamp"], data.size])
    return Table(
        name=name,
        origin=found.origin,
        inputs=made,
        labels=np.array(labels, np.int32),
        recordings=recordings.astype(np.int32),
        classes=classes,
        splits=splits or split_classes(classes),
        licence=found.licence,
        front_end=settings,
        kind=form(data),
        content=hashlib.sha256(content.encode()).hexdigest(),
        uses=uses,
        named_by=named_by,
    )


def words(name: str) -> str:
    """Returns the name of a class as a text: "book_flight", "book flight"."""
    parts = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return " ".join(re.split(r"[\W_]+", parts)).strip()


def read_file(path: pathlib.Path) -> Labelled:
    """Reads labelled texts of one's own.

    Raises:
      UserError: the file is of no known form, has a line without text or
        label, or is not UTF-8.
    """
    if path.suffix not in _LINES:
        raise UserError(f"{path} is not {EXPECTED}.")
    rows = _rows(path)
    for number, row in enumerate(rows, 1):
        for column in ("text", "label"):
            told = row.get(column)
            # An empty text is a text; an empty name is none.
            if not isinstance(told, str) or (
                column == "label" and not told.strip()
            ):
                raise UserError(
                    f"{path}: entry {number} has no {column} (as text); "
                    f"expected {EXPECTED}."
                )
    return Labelled(
        [row["text"] for row in rows],
        [row["label"].strip() for row in rows],
        str(path),
        "your own",
    )


def read_text(path: pathlib.Path) -> str:
    """Returns the text of a file in UTF-8, with or without its mark."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not UTF-8 (byte {error.start}); convert it, for "
            f"example: iconv -f latin1 -t utf-8 {path.name}"
        ) from error
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}); check the path."
        ) from error


def _rows(path):
    text = read_text(path)
    if path.suffix == ".jsonl":
        return json_lines(text, path)
    return table_rows(text, path)


def table_rows(text: str, path: pathlib.Path) -> list[dict]:
    """Reads .csv, or .tsv in which quotes mean nothing."""
    form = {"delimiter": "\t", "quoting": csv.QUOTE_NONE}
    form = form if path.suffix == ".tsv" else {"strict": True}
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline=""), **form))
    except csv.Error as error:
        raise UserError(
            f"{path} is no table ({error}); look for a quote that is not "
            "closed, or one inside of a cell that is not doubled."
        ) from error
    for number, row in enumerate(rows, 1):
        if None in row:
            raise UserError(
                f"{path}: entry {number} has more cells than the first line "
                "names; put quotes around a text with commas in it."
            )
    return rows


def json_lines(text: str, path: pathlib.Path) -> list[dict]:
    """Reads one JSON object per line."""
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UserError(
                f"{path}: line {number} is no JSON ({error}); correct it."
            ) from error
        if not isinstance(row, dict):
            raise UserError(f"{path}: line {number} is no JSON object.")
        rows.append(row)
    return rows
