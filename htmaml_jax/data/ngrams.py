"""Texts as ids of hashed character n-grams: any language, any script."""

from __future__ import annotations

import itertools
import unicodedata
import zlib
from collections.abc import Sequence

import numpy as np

from htmaml_jax.nets.ngrams import BUCKETS

LENGTHS = (2, 3, 4)  # characters of an n-gram, with the marks of word ends


def plain(text: str) -> str:
    """Returns a text without what makes no difference: case, blanks, NFKC."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def ids(text: str, size: int | None = None) -> list[int]:
    """Returns the n-gram ids of a text, in order, at most the first `size`.

    Words are what blanks separate, each between marks; their n-grams and the
    words themselves are hashed as UTF-8 (CRC-32). Case, and what Unicode
    counts as compatible (NFKC), make no difference.
    """
    return [_hashed(gram) for gram in itertools.islice(_grams(text), size)]


def inputs(texts: Sequence[str], size: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns ids [n, size] int32, and which texts had more, [n] bool."""
    out = np.zeros((len(texts), size), np.int32)
    cut = np.zeros(len(texts), bool)
    for i, text in enumerate(texts):
        row = ids(text, size + 1)
        cut[i] = len(row) > size
        kept = row[:size]
        out[i, : len(kept)] = kept
    return out, cut


def _grams(text):
    for word in plain(text).split():
        marked = f"<{word}>"
        yield marked
        for n in LENGTHS:
            for i in range(len(marked) - n + 1):
                yield marked[i : i + n]


def _hashed(gram):
    code = gram.encode("utf-8", "replace")
    return 1 + zlib.crc32(code) % (BUCKETS - 1)
