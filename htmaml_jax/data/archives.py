"""Files of a folder or of zip archives, read without extracting them."""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
import re
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence

from htmaml_jax.errors import UserError

# The last two: an encrypted member, and a compression that is not known.
_DAMAGE = (
    OSError,
    EOFError,
    zipfile.BadZipFile,
    zlib.error,
    RuntimeError,
    NotImplementedError,
)
_DEPTH = 4  # folders below the given one that are looked into


@dataclasses.dataclass(frozen=True)
class File:
    """A file of a tree or an archive.

    Attributes:
      name: its path there.
      size: in bytes.
      stamp: changes with its content, as far as one sees without reading.
      load: reads it.
    """

    name: str
    size: int
    stamp: str
    load: Callable[[], bytes]

    def read(self) -> bytes:
        """Returns what is in it, or says that it is damaged."""
        try:
            return self.load()
        except _DAMAGE as error:
            raise UserError(
                f"{self.name} cannot be read ({error}); copy or download the "
                "data again."
            ) from error


Files = Mapping[str, File]  # by path below the folder or in the archive


def matching(files: Files, pattern: re.Pattern[str]) -> list[tuple[str, ...]]:
    """Returns (the groups of the pattern, path) of all that fit, sorted.

    What an archive and a folder beside it both hold counts once; what macOS
    adds to archives does not count.
    """
    found = {}
    for path in sorted(files, key=lambda path: (len(path), path)):
        name = path.rpartition("/")[2]
        match = pattern.search(path)
        if match and not (name.startswith("._") or "__MACOSX" in path):
            key = match[0].lstrip("/")
            found.setdefault(key, (*match.groups(), path))
    return sorted(found.values())


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
            f"{info.CRC:08x}",
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
            try:
                stat = path.stat()
                size, stamp = stat.st_size, str(stat.st_mtime_ns)
            except OSError:
                # A link to what was not fetched is in nobody's way until read.
                size, stamp = 0, "missing"
            out[below] = File(below, size, stamp, path.read_bytes)
    return out


def stamps(files: Files, paths: Sequence[str]) -> list[tuple[str, int, str]]:
    """Lists what a cache of these files must depend on."""
    return [(path, files[path].size, files[path].stamp) for path in paths]
