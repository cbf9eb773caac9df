"""Texts as ids of hashed character n-grams: any language, any script."""

from __future__ import annotations

import unicodedata
import zlib
from collections.abc import Sequence

import numpy as np

from htmaml_jax.nets.ngrams import BUCKETS

LENGTHS = (2, 3, 4)  # characters of an n-gram, with the marks of word ends


def plain(text: str) -> str:
    """Returns a text without what makes no difference: case, blanks, NFKC."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def ids(text: str) -> list[int]:
    """Returns the n-gram ids of a text, in order.

    Words are what blanks separate, each between marks; their n-grams and the
    words themselves are hashed as UTF-8 (CRC-32). Case, and what Unicode
    counts as compatible (NFKC), make no difference.
    """
    found = []
    for word in plain(text).split():
        marked = f"<{word}>"
        grams = [
            marked[i : i + n]
            for n in LENGTHS
            for i in range(len(marked) - n + 1)
        ]
        found += [_hashed(gram) for gram in (marked, *grams)]
    return found


def inputs(texts: Sequence[str], size: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns ids [n, size] int32, and which texts had more, [n] bool."""
    out = np.zeros((len(texts), size), np.int32)
    cut = np.zeros(len(texts), bool)
    for i, text in enumerate(texts):
        # Every character but a blank gives an n-gram, so no more are needed.
        text = plain(text)
        row = ids(text[: 2 * size + 2])
        cut[i] = len(row) > size or len(text) > 2 * size + 2
        out[i, : min(size, len(row))] = row[:size]
    return out, cut


def _hashed(gram):
    code = gram.encode("utf-8", "replace")
    return 1 + zlib.crc32(code) % (BUCKETS - 1)
