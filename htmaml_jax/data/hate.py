"""Hate speech: posts in nine languages and the test cases of HateCheck.

Every language is a domain with the same two classes, `LABELS`: hateful or
offensive, and neither; `hate_sets` says what became which. HateCheck is
queries alone. Of any other test or validation language three texts in ten may
be support and the others queries, by a hash of the text, in the order of which
texts stand. Handles and addresses of the web become "@user" and "url". A text
is there once, and in one language: where test, validation and training hold
the same, training loses it.
"""

from __future__ import annotations

import hashlib
import html
import pathlib
import re
import zipfile
from typing import Any

import numpy as np

from htmaml_jax.config import form
from htmaml_jax.data.hate_sets import EXPECTED, HATECHECK, LANGUAGES
from htmaml_jax.data.ngrams import plain
from htmaml_jax.data.table import QUERY, SUPPORT, Table
from htmaml_jax.data.texts import inputs
from htmaml_jax.errors import UserError

__all__ = ["EXPECTED", "LABELS", "read"]
FOLDER = "text_hate"
LABELS = ("hateful", "neither")
_SHARE = 0.3  # of the texts of a test language, that may be support


def read(folder: pathlib.Path, data: Any) -> Table:
    """Reads the languages that a config names.

    Args:
      folder: holds `hate_sets.EXPECTED`, or a folder with that in it.
      data: the config group; `train`, `validation`, `test` (languages with
        "+" between them), `limit`, `encoder` and `size` matter.

    Raises:
      UserError: a language is unknown, named twice, or its files are missing.
    """
    if (folder / FOLDER).is_dir():
        folder = folder / FOLDER
    chosen = languages(data, tuple(LANGUAGES))
    taken: set[str] = set()
    rows: list[tuple[str, int, int]] = []  # text, class, uses
    splits: dict[str, tuple[str, ...]] = {}
    names, classes, licences = [], [], []
    for split in ("test", "validation", "train"):
        splits[split] = ()
        for language in chosen[split]:
            checked = language.startswith(HATECHECK)
            limit = data.limit if split == "train" else 0
            found, terms = _language(folder, language, taken, limit)
            taken |= {plain(text) for text, _ in found}
            licences += terms
            for text, hateful in found:
                uses = SUPPORT | QUERY
                if split != "train":
                    part = _digest(text)[0] < 256 * _SHARE and not checked
                    uses = SUPPORT if part else QUERY
                rows.append((text, len(classes) + (not hateful), uses))
            names.append(language if checked else f"hate-{language}")
            mine = tuple(f"{names[-1]}/{label}" for label in LABELS)
            classes += mine
            splits[split] += mine
    texts = [text for text, _, _ in rows]
    made, settings = inputs(texts, data)
    content = hashlib.sha256(
        repr((texts, settings["stamp"], data.size)).encode("utf-8", "replace")
    )
    return Table(
        name="hate",
        origin=str(folder),
        inputs=made,
        labels=np.array([label for _, label, _ in rows], np.int32),
        recordings=np.arange(len(rows), dtype=np.int32),
        classes=tuple(classes),
        splits=splits,
        licence="; ".join(dict.fromkeys(licences)),
        front_end={**settings, "labels": list(LABELS)},
        domains=tuple(names),
        domain_of=np.repeat(np.arange(len(names), dtype=np.int32), 2),
        kind=form(data),
        content=content.hexdigest(),
        named=True,
        uses=np.array([uses for _, _, uses in rows], np.uint8),
    )


def languages(data: Any, known: tuple[str, ...]) -> dict[str, list[str]]:
    """Returns split -> languages, each of `known` and named once."""
    chosen = {x: data[x].split("+") for x in ("train", "validation", "test")}
    for split, mine in chosen.items():
        for language in mine:
            if language not in known:
                raise UserError(
                    f"data.{split} is {data[split]!r}; it names languages "
                    f"with '+' between them, of {', '.join(known)}."
                )
    named = [x for mine in chosen.values() for x in mine]
    for language in named:
        if named.count(language) > 1:
            raise UserError(
                f"{language} is named twice in data.train, data.validation "
                "and data.test; name each language once."
            )
    return chosen


def clean(text: str) -> str:
    """Returns a post without the names of people and places in it."""
    text = re.sub(r"https?://\S+|\bURL\b|@url\b", "url", html.unescape(text))
    return " ".join(re.sub(r"@\w+|\bUSER\b", "@user", text).split())


def _language(folder, language, taken, limit):
    """Reads one language: [(text, hateful)] by hash, and licences."""
    sets = LANGUAGES[language]
    said: dict[str, tuple[str, bool]] = {}
    for _, reader in sets:
        for text, hateful in _rows(reader, folder, language):
            if hateful is not None and (key := plain(text)) not in taken:
                # The first opinion stays where two copies differ.
                said.setdefault(key, (text, hateful))
    found = sorted(said.values(), key=lambda row: _digest(row[0])[1:])
    if limit:
        sides = [[x for x in found if x[1] == side] for side in (True, False)]
        kept = {text for side in sides for text, _ in side[:limit]}
        found = [row for row in found if row[0] in kept]
    return found, [licence for licence, _ in sets]


def _rows(reader, folder, language):
    """Reads one set whole; what is not of its form is said, not thrown."""
    try:
        return [(clean(text), known) for text, known in reader(folder)]
    except (
        *(KeyError, ValueError, IndexError, AttributeError, TypeError),
        zipfile.BadZipFile,
    ) as error:
        raise UserError(
            f"a file of {language} in {folder} is not as its authors keep it "
            f"({type(error).__name__}: {error}); copy that set again."
        ) from error


def _digest(text: str) -> bytes:
    return hashlib.sha256(plain(text).encode("utf-8", "replace")).digest()
