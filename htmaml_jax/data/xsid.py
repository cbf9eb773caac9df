"""xSID: intents in 19 languages and dialects, the same sentences in each.

Of van der Goot et al. (NAACL 2021), version 0.7: every language is a domain,
every task of one language. The languages of training bring the sentences of
xSID's test part, the others those of its validation part; training loses what
both parts hold (57 of 500), so that no sentence is met again in translation.
Norwegian has each sentence in several dialects; they are one recording. Intents
with fewer than `LEAST` sentences in a language are left out. What translates
one English sentence is parallel: pairs for pre-training, which looks at the
rows of training languages alone.
"""

from __future__ import annotations

import collections
import dataclasses
import pathlib
import re
from typing import Any, NamedTuple

import numpy as np

from htmaml_jax.data.hate import languages
from htmaml_jax.data.intents import FOLDER
from htmaml_jax.data.ngrams import plain
from htmaml_jax.data.table import Table, joined
from htmaml_jax.data.texts import Labelled, read_text, table
from htmaml_jax.errors import UserError

LEAST = 10
EXPECTED = "xsid/data/xSID-0.7/ (of mainlp/xsid)"
LANGUAGES = tuple(
    "ar da de de-ba de-muc de-st en gsw id it ja kk lt nap nl no sr tr "
    "zh".split()
)
_PARTS = {"train": "test", "validation": "valid", "test": "valid"}


def read(folder: pathlib.Path, data: Any) -> Table:
    """Reads the languages that a config names.

    Args:
      folder: holds `EXPECTED`, or a folder text_intent with that in it.
      data: the config group; `train`, `validation`, `test` (languages with
        "+" between them), `encoder` and `size` matter.

    Raises:
      UserError: a language is unknown, named twice, or its files are missing.
    """
    if (folder / FOLDER).is_dir():
        folder = folder / FOLDER
    place = folder / "xsid" / "data" / "xSID-0.7"
    english = {part: _english(place, part) for part in ("test", "valid")}
    held = {plain(text) for text in english["valid"].values()}
    texts, labels, sentences, domains, originals = [], [], [], [], []
    splits: dict[str, tuple[str, ...]] = {}
    for split, chosen in languages(data, LANGUAGES).items():
        for language in chosen:
            part = _PARTS[split]
            rows = _rows(place / f"{language}.{part}.conll", english[part])
            if split == "train":
                rows = [row for row in rows if row.original not in held]
            alike = joined(
                [plain(row.text) for row in rows],
                [row.sentence for row in rows],
            )
            met = {(x.intent, i) for x, i in zip(rows, alike, strict=True)}
            counts = collections.Counter(intent for intent, _ in met)
            mine = {x for x, count in counts.items() if count >= LEAST}
            domains.append(f"xsid-{language}")
            names = tuple(f"{domains[-1]}/{x}" for x in sorted(mine))
            splits[split] = splits.get(split, ()) + names
            for row in rows:
                if row.intent in mine:
                    texts.append(row.text)
                    labels.append(f"{domains[-1]}/{row.intent}")
                    sentences.append(f"{language} {row.sentence}")
                    originals.append(row.original)
    found = Labelled(texts, labels, str(place), "CC BY-SA 4.0")
    made = table(found, "xsid", splits, data)
    position = {name: i for i, name in enumerate(domains)}
    of = [position[name.split("/")[0]] for name in made.classes]
    return dataclasses.replace(
        made,
        domains=tuple(domains),
        domain_of=np.array(of, np.int32),
        recordings=joined([plain(x) for x in texts], sentences),
        parallel=joined([plain(x) for x in texts], originals),
    )


class _Row(NamedTuple):
    sentence: str  # its number; dialects share one
    text: str
    intent: str
    original: str  # the English sentence that it translates


def _rows(path, english):
    """Reads every entry; `english` is number -> text of the same part."""
    rows = []
    for number, told in enumerate(_entries(path)):
        # "100/9" is the ninth dialect's form of sentence 100. Other numbers
        # are not those of the English file in every language.
        sentence, slash, _ = told.get("id", "").partition("/")
        original = told.get("text-en", told["text"])
        if slash:
            if sentence not in english:
                raise UserError(
                    f"{path}: entry {number + 1} is of sentence {sentence}, "
                    "which the English file has not; copy both again."
                )
            original = english[sentence]
        name = sentence if slash else str(number)
        rows.append(_Row(name, told["text"], told["intent"], plain(original)))
    return rows


def _english(place, part):
    """Returns number -> text of the English sentences, which have no ids."""
    found = _entries(place / f"en.{part}.conll")
    return {str(i): told["text"] for i, told in enumerate(found, 1)}


def _entries(path):
    """Reads what the comments of every entry say."""
    found = []
    for number, block in enumerate(read_text(path).split("\n\n")):
        if not block.strip():
            continue
        told = dict(
            re.findall(r"^# (id|text|text-en|intent) = (.*)$", block, re.M)
        )
        if not {"text", "intent"} <= told.keys():
            raise UserError(
                f"{path}: entry {number + 1} has no text or intent; copy it "
                "again."
            )
        found.append(told)
    return found
