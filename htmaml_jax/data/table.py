"""The example table: every clip of a data set, ready for episodes."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from htmaml_jax.errors import UserError

# What an example may be; see `Table.uses`.
SUPPORT, QUERY = 1, 2


class Scale(NamedTuple):
    """Mean and deviation of each channel, which inputs are divided by."""

    mean: list[float]
    deviation: list[float]

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        centred = inputs - np.asarray(self.mean)
        return (centred / np.asarray(self.deviation)).astype(np.float32)


class Masks(NamedTuple):
    """What an example of volumes has beside its image.

    Attributes:
      masks: [M, D, H, W] uint8, of what each cell is: 1 + the number of a
        class, 0 for none. Its own class is that which the example lies
        around.
      drawn: [M] bool; inputs are tissue numbers, of which an image is drawn
        anew in every episode, see `data.paint`.
      spacing: [M, 3] float32, size of a cell.
      units: [M], "mm", or "voxels" where the size of these is unknown.
      cases: [M], the file that it is from, for people.
    """

    masks: np.ndarray
    drawn: np.ndarray
    spacing: np.ndarray
    units: np.ndarray
    cases: np.ndarray


@dataclasses.dataclass(frozen=True)
class Table:
    """All examples of one data set in memory.

    Inputs are pictures [M, H, W, C], float32 in [0, 1] or uint8 in [0, 255]
    which stands for the same (of sounds row 0 is the lowest frequency), or
    vectors [M, F] float32 or ids [M, L] int32 (of n-grams, 0 for padding, or
    of an encoder's tokens), which networks are given as they are, or volumes
    [M, D, H, W, 1] uint8.

    Attributes:
      name: short name used in results, e.g. "esc50-pack".
      origin: where it came from, for people: a path, or "built-in ...".
      inputs: [M, ...], see above.
      labels: [M] int32, index into `classes`.
      recordings: [M] int32; examples that were cut from the same recording
        share a number, also where their classes differ.
      classes: class names, sorted.
      splits: split name -> class names; splits share no class.
      licence: licence of the data, as its publisher states it.
      front_end: the settings that turned the data into `inputs`.
      domains: names of the kinds of tasks; every task is of one of them.
      domain_of: [C] int32, which of them a class belongs to.
      scale: how episodes standardise `inputs`.
      families: [C] what kind of thing each class is, if the data says so.
      kind: "pictures", "vectors", "ngrams", "tokens" or "volumes".
      content: what the fingerprint takes for `inputs`, where these are
        computed and another machine rounds them in another way.
      named: whether all domains have the same classes in the same order, and
        slot k of every task is the k-th of them.
      uses: [M] uint8, the sum of what an example may be, of `SUPPORT` and
        `QUERY`; by default both.
      named_by: [C] int32, the example that is the name of a class, which
        every support set of it holds; None without names.
      parallel: [M] int32, texts that say the same share a number, whatever
        their languages; None where nothing is translated.
      outside: [n, ...] inputs of no class at all, to be told from all tasks.
      masks: of volumes.
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
    domains: tuple[str, ...] = ("",)
    domain_of: np.ndarray | None = None
    scale: Scale = Scale([0.0], [1.0])
    families: tuple[str, ...] = ()
    kind: str = "pictures"
    content: str = ""
    named: bool = False
    uses: np.ndarray | None = None
    named_by: np.ndarray | None = None
    parallel: np.ndarray | None = None
    outside: np.ndarray | None = None
    masks: Masks | None = None

    def __post_init__(self):
        if self.domain_of is None:
            alone = np.zeros(len(self.classes), np.int32)
            object.__setattr__(self, "domain_of", alone)

    @functools.cached_property
    def fingerprint(self) -> str:
        """Sixteen hex digits that change with any example, label or split."""
        digest = hashlib.sha256()
        arrays = (self.inputs, self.labels, self.recordings)
        digest.update(self.content.encode())
        for array in arrays[1:] if self.content else arrays:
            digest.update(np.ascontiguousarray(array).tobytes())
        digest.update(repr(self.classes).encode())
        digest.update(repr(sorted(self.splits.items())).encode())
        if len(self.domains) > 1:
            digest.update(self.domain_of.tobytes())
        if self.uses is not None:
            digest.update(self.uses.tobytes())
        return digest.hexdigest()[:16]

    def describe(self) -> str:
        """Says in a few words what there is."""
        counts = f"{len(self.labels)} examples, {len(self.classes)} classes"
        if len(self.domains) == 1:
            return counts
        return f"{counts}, domains: {', '.join(self.domains)}"

    def standardised(self, scale: Scale | None = None) -> Table:
        """Returns the table with a scale, by default its training split's.

        Each domain counts the same, however many examples it has. What is
        no picture stays as it is.
        """
        if self.kind != "pictures":
            return self
        if scale is None:
            scale = self._measured()
        return dataclasses.replace(self, scale=scale)

    def _measured(self):
        classes = self.of_split("train")
        moments = []
        for domain in range(len(self.domains)):
            mine = classes[self.domain_of[classes] == domain]
            x = self.inputs[np.isin(self.labels, mine)]
            whole = 255 if x.dtype == np.uint8 else 1
            square = _mean(np.square(x, dtype=np.float32))
            moments.append((_mean(x) / whole, square / whole**2))
        mean, square = np.mean(moments, axis=0)
        deviation = np.sqrt(np.maximum(square - mean**2, 1e-12))
        return Scale(mean.tolist(), deviation.tolist())

    def domains_of(self, split: str) -> np.ndarray:
        """Returns the domains [P] int32 that have classes in a split."""
        found = np.unique(self.domain_of[self.of_split(split)])
        return found.astype(np.int32)

    def rows_of(self, split: str) -> np.ndarray:
        """Returns the rows [n] of a split."""
        return np.flatnonzero(np.isin(self.labels, self.of_split(split)))

    def of_domain(self, domain: str, split: str) -> Table:
        """Returns the table with the classes of one domain in a split."""
        if domain not in self.domains:
            raise UserError(
                f"data {self.name} has no domain {domain!r}; it has "
                f"{', '.join(self.domains)}."
            )
        classes = self.of_split(split)
        mine = classes[self.domain_of[classes] == self.domains.index(domain)]
        if not len(mine):
            raise UserError(
                f"the {split} split of {self.name} has nothing of {domain}; "
                "choose another eval.domain or eval.split."
            )
        names = tuple(self.classes[i] for i in mine)
        return dataclasses.replace(self, splits={split: names})

    def with_features(self, rows: np.ndarray, features: np.ndarray) -> Table:
        """Returns the table with vectors for the inputs of some rows.

        All other rows are zero. Of volumes the classes are left, to be told
        from each other, and no masks.
        """
        inputs = np.zeros((len(self.labels), features.shape[1]), np.float32)
        inputs[rows] = features
        return dataclasses.replace(
            self,
            inputs=inputs,
            kind="vectors",
            scale=Scale([0.0], [1.0]),
            masks=None,
        )

    def inside(self, rows: np.ndarray) -> np.ndarray:
        """Returns [n, D, H, W] bool: where volumes show their own class."""
        numbers = 1 + self.labels[rows]
        return self.masks.masks[rows] == numbers[:, None, None, None]

    def of_split(self, split: str) -> np.ndarray:
        """Returns the sorted class indices [C] of a split."""
        if split not in self.splits:
            raise UserError(
                f"data {self.name} has no split {split!r}; it has "
                f"{', '.join(sorted(self.splits))}. To judge on another, set "
                "eval.split; to train, choose other data."
            )
        position = {name: i for i, name in enumerate(self.classes)}
        return np.array(
            sorted(position[name] for name in self.splits[split]), np.int32
        )


def renumbered(masks: np.ndarray, classes: Sequence[int]) -> np.ndarray:
    """Gives masks the numbers of other classes: k + 1 becomes classes[k] + 1.

    Raises:
      UserError: there are more than 255.
    """
    numbers = np.array([0, *(1 + np.asarray(classes))])
    if numbers.max() > 255:
        raise UserError(
            f"{numbers.max()} structures are too many, 255 is the most; take "
            "some of them."
        )
    return numbers.astype(np.uint8)[masks]


def _mean(inputs):
    return inputs.mean((0, 1, 2), dtype=np.float64)


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
            "and test; give at least 3, or 31 for tasks of five in each "
            "split."
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


def numbered(texts: Sequence[str]) -> np.ndarray:
    """Returns numbers [n], equal where texts are, in the order of these.

    An array of texts would give each the room of the longest.
    """
    place = {text: i for i, text in enumerate(sorted(set(texts)))}
    return np.array([place[text] for text in texts])


def joined(*groups: Sequence[str]) -> np.ndarray:
    """Returns numbers [M] int32, equal where any of groups is, by chains too.

    Args:
      *groups: names [M] each.
    """
    numbers = [numbered(names) for names in groups]
    found = np.arange(len(numbers[0]))
    while True:
        old = found
        for group in numbers:
            least = np.full(group.max() + 1, len(found))
            np.minimum.at(least, group, found)
            found = least[group]
        if (found == old).all():
            return found.astype(np.int32)
