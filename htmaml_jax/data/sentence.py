"""Pre-trained sentence encoders: texts to tokens or vectors, each once."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from htmaml_jax.data import cache
from htmaml_jax.data import sentence_folder as folders
from htmaml_jax.nets.bert import Bert

_BATCH = 64
_STEP = 16  # texts are padded to multiples of it, so that few are compiled


@dataclasses.dataclass(frozen=True, eq=False)
class Sentences:
    """A sentence encoder; call it with texts.

    Attributes:
      name: of the folder.
      network: the Flax module.
      params: its weights.
      tokenizer: of the package `tokenizers`.
      length: tokens that are read of a text; what is beyond is cut.
      stamp: changes with weights, tokenizer or settings.
    """

    name: str
    network: Bert
    params: Any
    tokenizer: Any
    length: int
    stamp: str

    def tokens(self, texts: Sequence[str]) -> tuple[list[list[int]], list]:
        """Returns the token ids of each text, and whether it was cut."""
        # Half of a surrogate pair is no character that UTF-8 knows.
        whole = [t.encode("utf-8", "replace").decode() for t in texts]
        found = self.tokenizer.encode_batch(whole)
        return [e.ids for e in found], [bool(e.overflowing) for e in found]

    def padded(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Returns tokens [n, length] int32, and which texts were cut, [n]."""
        ids, cut = self.tokens(texts)
        return self._filled(ids, len(ids), self.length), np.array(cut, bool)

    def _filled(self, ids, count, length):
        """Puts token ids into the rows of [count, length], then padding."""
        out = np.full((count, length), self.network.padding, np.int32)
        for row, mine in zip(out, ids, strict=False):
            row[: len(mine)] = mine
        return out

    def __call__(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Encodes texts in order of length, with a bar on a terminal.

        Returns:
          Vectors [n, F] float32, and which texts were cut, [n] bool.
        """
        ids, cut = self.tokens(texts)
        order = np.argsort([len(x) for x in ids], kind="stable")
        width = self.network.dense or self.network.width
        out = np.empty((len(ids), width), np.float32)
        # Features are made once, outside of any training step.
        apply = jax.jit(self.network.apply)
        starts = range(0, len(ids), _BATCH)
        for first in cache.show_progress(starts, desc="encoder"):
            rows = order[first : first + _BATCH]
            longest = len(ids[rows[-1]])
            length = min(self.length, -(-longest // _STEP) * _STEP)
            padded = self._filled([ids[i] for i in rows], _BATCH, length)
            vectors = apply({"params": self.params}, padded)
            out[rows] = np.asarray(vectors)[: len(rows)]
        return out, np.array(cut, bool)

    def cached(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Encodes texts that no earlier call has met; finds the others.

        One file per encoder holds what it has said of which text.
        """
        marks = np.array([_mark(t) for t in texts], np.uint64)
        key = {"kind": "sentences", "encoder": self.stamp}
        width = self.network.dense or self.network.width
        known = cache.read(key) or {
            "marks": np.zeros(0, np.uint64),
            "vectors": np.zeros((0, width), np.float32),
            "cut": np.zeros(0, bool),
        }
        wanted, first = np.unique(marks, return_index=True)
        fresh = first[~np.isin(wanted, known["marks"])]
        if len(fresh):
            more = (marks[fresh], *self([texts[i] for i in fresh]))
            known = {
                name: np.concatenate([old, new])
                for (name, old), new in zip(known.items(), more, strict=True)
            }
            cache.write(key, known)
        order = np.argsort(known["marks"])
        place = np.searchsorted(known["marks"], marks, sorter=order)
        rows = order[place]
        return known["vectors"][rows], known["cut"][rows]


def _mark(text):
    """Returns 64 bits that stand for a text."""
    digest = hashlib.sha256(text.encode("utf-8", "replace")).digest()
    return int.from_bytes(digest[:8], "little")


@functools.cache
def load(name: str, most: int = 0) -> Sentences:
    """Loads an encoder by the path of its folder, or by a known name.

    A name is looked for in the installed packages of `PACKAGES`, then in the
    cache of the hub's client.

    Args:
      name: see above.
      most: tokens that are read of a text, if less than the encoder can; 0:
        as many as it can.

    Raises:
      UserError: there is no such folder, a file of it is missing, or it is
        of a family that is not known here.
    """
    folder = folders.find(name)
    network = folders.network(folder)
    _, dense, _ = folders.modules(folder)
    settings = folder / "sentence_bert_config.json"
    length = network.positions - network.offset
    if settings.is_file():
        asked = folders.read_json(settings).get("max_seq_length")
        length = min(length, asked or length)
    length = min(length, most or length)
    weights = folder / "model.safetensors"
    params = folders.weights(weights, network, dense)
    return Sentences(
        name=pathlib.Path(name).name,
        network=network,
        params=params,
        tokenizer=folders.tokenizer(folder / "tokenizer.json", length),
        length=length,
        stamp=folders.stamp(folder),
    )
