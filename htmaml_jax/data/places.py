"""Folders that data lie in."""

from __future__ import annotations

import dataclasses
import os
import pathlib

from htmaml_jax.data.table import Table
from htmaml_jax.errors import UserError


def folder(text: str, source: str) -> pathlib.Path:
    """Returns a folder that a person or the environment named."""
    found = pathlib.Path(text).expanduser()
    if not found.is_dir():
        raise UserError(f"{source} {found} is not a folder; correct it.")
    return found


def given(own: str, name: str, expected: str) -> tuple[pathlib.Path, bool]:
    """Returns data.dir, or else $HTMAML_DATA, and whether it is the latter.

    Args:
      own: data.dir.
      name: of the data, for the message.
      expected: what the folder holds, for the message.
    """
    if own:
        return folder(own, "data.dir"), False
    if place := os.environ.get("HTMAML_DATA"):
        return folder(place, "$HTMAML_DATA"), True
    raise UserError(
        f"no {name} data: give --config.data.dir, a folder with {expected}."
    )


def travelling(table: Table, root: pathlib.Path) -> Table:
    """Returns a table whose origin does not name one machine's folder."""
    origin = pathlib.Path(table.origin)
    if not origin.is_relative_to(root):
        return table
    below = f"$HTMAML_DATA/{origin.relative_to(root)}"
    return dataclasses.replace(table, origin=below)
