"""xSID: intents in 19 languages and dialects, the same sentences in each.

Of van der Goot et al. (NAACL 2021), version 0.7: every language is a domain,
every task of one language. The languages of training bring the sentences of
xSID's test part, the others those of its validation part, so that no sentence
is met again in translation. Norwegian has each sentence in several dialects;
they are one recording. Intents with fewer than `LEAST` sentences in a language
are left out.
"""

from __future__ import annotations

import collections
import dataclasses
import pathlib
import re
from typing import Any

import numpy as np

from htmaml_jax.data.hate import languages
from htmaml_jax.data.intents import FOLDER
from htmaml_jax.data.ngrams import plain
from htmaml_jax.data.table import Table
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
    texts, labels, sentences, domains = [], [], [], []
    splits: dict[str, tuple[str, ...]] = {}
    for split, chosen in languages(data, LANGUAGES).items():
        for language in chosen:
            rows = _rows(place / f"{language}.{_PARTS[split]}.conll")
            alike = _together(
                [plain(text) for _, text, _ in rows],
                [sentence for sentence, _, _ in rows],
            )
            met = {(x, i) for (_, _, x), i in zip(rows, alike, strict=True)}
            counts = collections.Counter(intent for intent, _ in met)
            mine = {x for x, count in counts.items() if count >= LEAST}
            domains.append(f"xsid-{language}")
            names = tuple(f"{domains[-1]}/{x}" for x in sorted(mine))
            splits[split] = splits.get(split, ()) + names
            for sentence, text, intent in rows:
                if intent in mine:
                    texts.append(text)
                    labels.append(f"{domains[-1]}/{intent}")
                    sentences.append(f"{language} {sentence}")
    found = Labelled(texts, labels, str(place), "CC BY-SA 4.0")
    made = table(found, "xsid", splits, data)
    position = {name: i for i, name in enumerate(domains)}
    of = [position[name.split("/")[0]] for name in made.classes]
    return dataclasses.replace(
        made,
        domains=tuple(domains),
        domain_of=np.array(of, np.int32),
        recordings=_together([plain(x) for x in texts], sentences),
    )


def _rows(path):
    """Returns (sentence, text, intent) of every entry."""
    rows = []
    for number, block in enumerate(read_text(path).split("\n\n")):
        if not block.strip():
            continue
        told = dict(re.findall(r"^# (id|text|intent) = (.*)$", block, re.M))
        if not {"text", "intent"} <= told.keys():
            raise UserError(
                f"{path}: entry {number + 1} has no text or intent; copy it "
                "again."
            )
        # "100/9" is the ninth dialect's form of sentence 100.
        sentence, slash, _ = told.get("id", "").partition("/")
        rows.append(
            (sentence if slash else str(number), told["text"], told["intent"])
        )
    return rows


def _together(texts, sentences):
    """Returns [M] int32, equal where texts or sentences are, also by chains."""
    pair = [np.unique(x, return_inverse=True)[1] for x in (texts, sentences)]
    joined = np.arange(len(texts))
    while True:
        old = joined
        for group in pair:
            least = np.full(group.max() + 1, len(joined))
            np.minimum.at(least, group, joined)
            joined = least[group]
        if (joined == old).all():
            return joined.astype(np.int32)
