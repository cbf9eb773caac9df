"""What takes long to compute and is kept on disk; and the bar meanwhile."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tqdm
from absl import logging

from htmaml_jax.errors import UserError

# Raise it when a front end's numbers change, so that old ones are not used.
VERSION = 3


def show_progress(items, progress: bool = True, **options):
    """Wraps an iterable in a progress bar where a terminal watches."""
    options = {"desc": "front end", **options}
    quiet = not (progress and sys.stderr.isatty())
    return tqdm.tqdm(items, disable=quiet, **options)


def stamps(files: Sequence[pathlib.Path]) -> list[tuple[str, int, int]]:
    """Lists path, size in bytes and time of change in ns of each file."""
    out = []
    for file in files:
        try:
            stat = file.stat()
        except OSError as error:
            raise UserError(
                f"{file}: no such file, or not readable; check the path."
            ) from error
        out.append((str(file.resolve()), stat.st_size, stat.st_mtime_ns))
    return out


def cache_dir() -> pathlib.Path:
    """Returns the folder for what can be computed again.

    It is $HTMAML_CACHE, else $XDG_CACHE_HOME/htmaml_jax, else
    ~/.cache/htmaml_jax.
    """
    if own := os.environ.get("HTMAML_CACHE"):
        return pathlib.Path(own)
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return pathlib.Path(base) / "htmaml_jax"


def _path(key):
    text = json.dumps({"version": VERSION, **key}, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:32]
    return cache_dir() / "features" / f"{digest}.npz"


def cached(
    key: Mapping[str, object],
    compute: Callable[[], Mapping[str, np.ndarray]],
) -> dict[str, np.ndarray]:
    """Returns compute(), from `cache_dir()/features` when it is there.

    A damaged file is computed again; a cache that cannot be written costs
    a logged warning and nothing else.

    Args:
      key: everything the arrays depend on, as JSON.
      compute: makes the arrays, by name.
    """
    if (arrays := read(key)) is None:
        arrays = dict(compute())
        write(key, arrays)
    return arrays


def read(key: Mapping[str, object]) -> dict[str, np.ndarray] | None:
    """Returns what was written under a key, or None."""
    path = _path(key)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except FileNotFoundError:
        pass
    except (OSError, EOFError, KeyError, ValueError) as error:
        logging.warning("%s cannot be used, computing again: %s", path, error)
    except (zipfile.BadZipFile, zlib.error) as error:
        logging.warning("%s is damaged, computing again: %s", path, error)
    return None


def write(key: Mapping[str, object], arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays under a key, whole or not at all."""
    path, temporary = _path(key), None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            dir=path.parent, suffix=".part", delete=False
        ) as file:
            temporary = file.name
            np.savez(file, **arrays)
        os.replace(temporary, path)
    except OSError as error:
        logging.warning("the feature cache %s was not written: %s", path, error)
        if temporary is not None and os.path.exists(temporary):
            os.remove(temporary)
