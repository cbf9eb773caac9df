"""Files of a folder or of zip archives, read without extracting them."""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
import re
import zipfile
import zlib
from collections.abc import Callable, Mapping

from htmaml_jax.errors import UserError

_DEPTH = 4  # folders below the given one that are looked into


@dataclasses.dataclass(frozen=True)
class File:
    """A file of a tree or an archive: bytes, and how to read it."""

    name: str
    size: int
    load: Callable[[], bytes]

    def read(self) -> bytes:
        """Returns what is in it, or says that it is damaged."""
        try:
            return self.load()
        except (OSError, zipfile.BadZipFile, zlib.error) as error:
            raise UserError(
                f"{self.name} cannot be read ({error}); copy or download the "
                "data again."
            ) from error


Files = Mapping[str, File]  # by path below the folder or in the archive


def matching(files: Files, pattern: re.Pattern[str]) -> list[tuple[str, ...]]:
    """Returns (the groups of the pattern, path) of all that fit, sorted."""
    return sorted(
        (*match.groups(), path)
        for path in files
        if (match := pattern.search(path))
    )


def zip_files(path: pathlib.Path) -> Files:
    """Lists the members of a zip archive, read one by one on demand."""
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{path}: not a whole zip archive ({error}); download it again."
        ) from error
    return {
        info.filename: File(
            info.filename,
            info.file_size,
            functools.partial(archive.read, info),
        )
        for info in archive.infolist()
        if not info.is_dir()
    }


def folder_files(root: pathlib.Path) -> Files:
    """Lists the files below a folder and in the archives that lie in it."""
    out: dict[str, File] = {}
    for path in sorted(root.glob("*.zip")):
        out.update(zip_files(path))
    for folder, folders, names in os.walk(root):
        here = pathlib.Path(folder)
        if len(here.relative_to(root).parts) >= _DEPTH:
            folders.clear()
        for name in names:
            path = here / name
            below = path.relative_to(root).as_posix()
            out[below] = File(below, path.stat().st_size, path.read_bytes)
    return out
