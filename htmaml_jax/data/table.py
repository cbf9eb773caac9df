"""The example table: every clip of a data set, ready for episodes."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Mapping

import numpy as np

from htmaml_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Table:
    """All examples of one data set in memory.

    Attributes:
      name: short name used in results, e.g. "esc50-pack".
      origin: where it came from, for people: a path, or "built-in ...".
      inputs: [M, H, W, C] float32 in [0, 1]; row 0 is the lowest frequency.
      labels: [M] int32, index into `classes`.
      recordings: [M] int32; examples that were cut from the same recording
        share a number, also where their classes differ.
      classes: class names, sorted.
      splits: split name -> class names; splits share no class.
      licence: licence of the data, as its publisher states it.
      front_end: the settings that turned waveforms into `inputs`.
    """

    name: str
    origin: str
    inputs: np.ndarray
    labels: np.ndarray
    recordings: np.ndarray
    classes: tuple[str, ...]
    splits: Mapping[str, tuple[str, ...]]
    licence: str
    front_end: Mapping[str, object]

    @functools.cached_property
    def fingerprint(self) -> str:
        """Sixteen hex digits that change with any example, label or split."""
        digest = hashlib.sha256()
        for array in (self.inputs, self.labels, self.recordings):
            digest.update(np.ascontiguousarray(array).tobytes())
        digest.update(repr(self.classes).encode())
        digest.update(repr(sorted(self.splits.items())).encode())
        return digest.hexdigest()[:16]

    def describe(self) -> str:
        """Says in a few words what there is."""
        return f"{len(self.labels)} clips, {len(self.classes)} classes"

    def of_split(self, split: str) -> np.ndarray:
        """Returns the sorted class indices [C] of a split."""
        if split not in self.splits:
            raise UserError(
                f"data {self.name} has no split {split!r}; it has "
                f"{', '.join(sorted(self.splits))}."
            )
        position = {name: i for i, name in enumerate(self.classes)}
        return np.array(
            sorted(position[name] for name in self.splits[split]), np.int32
        )


def split_classes(
    classes: tuple[str, ...], fractions: tuple[float, float] = (0.15, 0.25)
) -> dict[str, tuple[str, ...]]:
    """Splits classes into train, validation and test by their sorted order.

    Args:
      classes: class names.
      fractions: shares of validation and of test classes; each gets at
        least one class.
    """
    names = sorted(classes)
    if len(names) < 3:
        raise UserError(
            f"{len(names)} classes cannot be split into train, validation "
            "and test; give at least 3 (evaluation of a trained model on "
            "your own classes needs no split)."
        )
    # A fixed hash spreads alphabetical neighbours over the splits.
    names.sort(key=lambda n: hashlib.sha256(n.encode()).hexdigest())
    validation = max(1, round(fractions[0] * len(names)))
    test = max(1, round(fractions[1] * len(names)))
    return {
        "validation": tuple(sorted(names[:validation])),
        "test": tuple(sorted(names[validation : validation + test])),
        "train": tuple(sorted(names[validation + test :])),
    }
