"""Rules: which family transforms which parameter."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from htmaml_jax.errors import UserError
from htmaml_jax.hyper import families

# What leaves class slots alike.
_FOR_SLOTS = ("identity", "rows", "scalar")


class Line(NamedTuple):
    """One parameter and its transform."""

    path: str
    shape: tuple[int, ...]
    family: str
    generated: int


def path_of(keys) -> str:
    """Writes a pytree path as "body/conv0/kernel"."""
    return jax.tree_util.keystr(keys, simple=True, separator="/")


def assign(
    params: Any,
    rules: Sequence[Sequence[str]],
    slots: bool = True,
    strict: bool = True,
) -> list[Line]:
    """Gives each parameter the family of the first rule that matches.

    Args:
      params: pytree of arrays or of shapes.
      rules: pairs (regular expression on the whole path, family), in order.
      slots: whether the columns of the head are slots of a task.
      strict: refuse rules that match nothing; presets are written for more
        than one kind of network.

    Returns:
      One line per leaf, in the order of `jax.tree.leaves`.
    """
    used = set()
    lines = []
    for keys, leaf in jax.tree_util.tree_leaves_with_path(params):
        path, shape = path_of(keys), tuple(leaf.shape)
        family = "identity"
        for position, (pattern, name) in enumerate(rules):
            if _matches(pattern, path):
                family = name
                used.add(position)
                break
        families.make(family, "check")
        if family == "rows" and not path.startswith("head/"):
            raise UserError(
                f"hyper.rules gives {path} the family 'rows', which is for "
                "parameters of the head; choose another."
            )
        if slots and path.startswith("head/") and family not in _FOR_SLOTS:
            raise UserError(
                f"hyper.rules gives {path} the family {family!r}, which would "
                "treat slots differently; a head can have "
                f"{', '.join(_FOR_SLOTS)}."
            )
        count = families.generated(family, shape)
        lines.append(Line(path, shape, family, count))
    if rules and not used:
        raise UserError(
            "hyper.rules match no parameter, so that nothing would be "
            f"transformed; parameters: {', '.join(x.path for x in lines)}."
        )
    for position, (pattern, _) in enumerate(rules):
        if strict and position not in used:
            raise UserError(
                f"rule {pattern!r} in hyper.rules matches no parameter, or "
                "an earlier rule takes all that it matches; parameters: "
                f"{', '.join(line.path for line in lines)}."
            )
    return lines


def _matches(pattern, path):
    try:
        return re.fullmatch(pattern, path)
    except re.error as error:
        raise UserError(
            f"rule {pattern!r} in hyper.rules is no regular expression "
            f"({error}); correct it."
        ) from error


def table(lines: Sequence[Line]) -> str:
    """Formats the assignment for the start-up log."""
    rows = [("parameter", "shape", "family", "generated")]
    rows += [
        (x.path, "x".join(map(str, x.shape)), x.family, str(x.generated))
        for x in lines
    ]
    rows.append(("total", "", "", str(sum(x.generated for x in lines))))
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    return "\n".join(
        "  ".join(
            cell.ljust(w) for cell, w in zip(row, widths, strict=True)
        ).rstrip()
        for row in rows
    )
