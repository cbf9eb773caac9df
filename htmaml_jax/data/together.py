"""Which structures volumes show at once: what tasks on several ask for."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from htmaml_jax.data.table import Table
from htmaml_jax.errors import UserError

# A structure of fewer cells in a cube is not there.
SMALLEST = 8
_MOST = 4096  # sets of a domain; of more, as many evenly


class Together(NamedTuple):
    """Structures that are looked for at once.

    Attributes:
      members: their places among the classes of a split.
      rows: of the table, which lie around the first and show all.
    """

    members: tuple[int, ...]
    rows: np.ndarray


def shown(mask: np.ndarray) -> np.ndarray:
    """Returns the numbers, but 0, of which a mask has `SMALLEST` cells."""
    numbers, counts = np.unique(mask, return_counts=True)
    return numbers[(counts >= SMALLEST) & (numbers > 0)].astype(np.int64)


def sets_of(
    table: Table, split: str, way: int, shot: int, query: int
) -> list[Together]:
    """Lists the sets of structures of one domain that tasks may ask for.

    Args:
      table: of volumes.
      split: its classes.
      way: structures of a set.
      shot, query: volumes that a task needs, the latter of other subjects.

    Raises:
      UserError: a domain has none.
    """
    classes = table.of_split(split)
    single = [
        Together((i,), np.flatnonzero(table.labels == c))
        for i, c in enumerate(classes)
    ]
    if way == 1:
        return single
    shows = np.zeros((len(table.labels), 1 + len(table.classes)), bool)
    for row in np.concatenate([one.rows for one in single]):
        shows[row, shown(table.masks.masks[row])] = True
    found = []
    for domain in table.domains_of(split):
        mine = np.flatnonzero(table.domain_of[classes] == domain)
        sets = [single[i] for i in mine]
        for _ in range(way - 1):
            sets = [
                Together((*one.members, i), rows)
                for one in sets
                for i in mine[mine > one.members[-1]]
                for rows in [one.rows[shows[one.rows, 1 + classes[i]]]]
                if _enough(table.recordings[rows], shot, query)
            ]
            kept = np.linspace(0, len(sets) - 1, min(len(sets), _MOST))
            sets = [sets[i] for i in kept.astype(int)]
        if not sets:
            raise UserError(
                f"no {way} structures of {split!r} in "
                f"{table.domains[domain] or table.name} are seen together in "
                f"{shot} volumes and {query} of other subjects; lower way, "
                "shot or query."
            )
        found += sets
    return found


def _enough(subjects, shot, query):
    """Whether queries are left whichever volumes are support."""
    _, sizes = np.unique(subjects, return_counts=True)
    spoilt = np.sort(sizes)[::-1][:shot].sum()
    return len(subjects) >= shot and len(subjects) - spoilt >= query
