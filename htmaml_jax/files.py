"""Small text files, read and written whole or not at all."""

from __future__ import annotations

import json
import os

from etils import epath

from htmaml_jax.errors import UserError


def write_whole(path: epath.Path, text: str) -> None:
    """Writes beside, then renames: a file is old or new, never between."""
    path = epath.Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(text)
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise UserError(
            f"{path} cannot be written ({error.strerror or error}); free disk "
            "space or choose another folder, then run the same command again."
        ) from error


def read_json(path: epath.Path) -> dict:
    """Reads a JSON file, or says that it is damaged."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}).") from error
