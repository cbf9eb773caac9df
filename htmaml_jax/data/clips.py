"""A person's own sound files: one folder per class."""

from __future__ import annotations

import hashlib
import os
import pathlib
import re
from collections.abc import Iterator, Sequence

import numpy as np
from absl import logging

from htmaml_jax.data import audio, windows
from htmaml_jax.data.table import Table, joined, split_classes
from htmaml_jax.errors import UserError

_SPLITS = ("train", "validation", "test")
_KINDS = ", ".join(ending[1:] for ending in audio.EXTENSIONS)


def read_folder(
    root: str | os.PathLike,
    front: audio.FrontEnd,
    pattern: str | None = None,
) -> Table:
    """Reads a folder that holds one folder of sound files per class.

    Where `root` holds the folders train, validation and test, each with
    class folders of its own, they are the splits; test alone is for runs
    that were trained on other data. Otherwise the classes are split by
    `split_classes`.

    Args:
      root: the folder.
      front: the audio settings.
      pattern: regular expression with one group, searched in every file
        name; files with the same group were cut from the same recording,
        whatever their classes. Without it every file is one of its own.

    Raises:
      UserError: a folder, a file or the pattern cannot be used; the
        message names it.
    """
    root = pathlib.Path(root)
    if not root.is_dir():
        raise UserError(
            f"{root}: no such folder; give a folder that holds one folder "
            "of sound files per class."
        )
    recording = recording_of(pattern)
    by_split = _class_folders(root)
    folders = sorted(
        (folder for some in by_split.values() for folder in some),
        key=lambda folder: folder.name,
    )
    names = [folder.name for folder in folders]
    files, labels, groups = [], [], []
    for label, folder in enumerate(folders):
        for file in _sounds(folder):
            files.append(file)
            labels.append(label)
            # Without a pattern a name says nothing beyond its folder.
            own = recording(file)
            groups.append(own if pattern else f"{label}/{own}")
    if None in by_split:
        splits = split_classes(tuple(names))
    else:
        splits = {
            split: tuple(folder.name for folder in some)
            for split, some in by_split.items()
        }
    inputs = audio.features(files, front)
    _name_silence(inputs, np.arange(len(files)), files)
    numbers = _recordings(inputs, groups, files)
    return Table(
        name="clips",
        origin=str(root),
        inputs=inputs,
        labels=np.array(labels, np.int32),
        recordings=numbers,
        classes=tuple(names),
        splits=splits,
        licence="your own",
        front_end=front.asdict(),
    )


def _recordings(inputs, groups, files):
    """Numbers recordings [n]; what looks alike is one, whatever its name."""
    looks = [hashlib.sha256(one.tobytes()).hexdigest() for one in inputs]
    # Of silence there is nothing to recognise.
    looks = [
        look if one[..., 0].any() else str(i)
        for i, (look, one) in enumerate(zip(looks, inputs, strict=True))
    ]
    first = {look: i for i, look in reversed(list(enumerate(looks)))}
    copies = [i for i, look in enumerate(looks) if first[look] < i]
    found = np.array(groups)
    if copies:
        logging.warning(
            "%s: sounds like another file, as %d of %d do; such count as one "
            "recording, which is never in support and query.",
            *(files[copies[0]], len(copies), len(files)),
        )
        found = joined(groups, looks)
    return np.unique(found, return_inverse=True)[1].astype(np.int32)


def read_clips(
    paths: Sequence[str | os.PathLike], front: audio.FrontEnd
) -> tuple[np.ndarray, np.ndarray]:
    """Reads sound files of any length as pictures of their windows.

    Returns:
      [n, rows, columns, channels] float32, and the file of each [n].

    Raises:
      UserError: there is none, or one cannot be used; the message names it.
    """
    if not paths:
        raise UserError(f"no sound files given; give {_KINDS} files.")
    inputs, of_file = windows.features(paths, front)
    _name_silence(inputs, of_file, paths)
    return inputs, of_file


def _name_silence(
    inputs: np.ndarray, owners: np.ndarray, files: Sequence[str | os.PathLike]
) -> None:
    """Warns of files that show no sound.

    Args:
      inputs: pictures [n, rows, columns, channels].
      owners: [n], which file each is of.
      files: their paths.
    """
    heard = inputs[..., 0].any((1, 2))  # other channels have an offset
    silent = sorted(set(range(len(files))) - set(owners[heard].tolist()))
    if silent:
        logging.warning(
            "%s: nothing but silence, as in %d of %d files; no class can be "
            "told from that, leave such files out.",
            files[silent[0]],
            len(silent),
            len(files),
        )


def _visible(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(p for p in folder.iterdir() if not p.name.startswith("."))


def _folders(folder: pathlib.Path) -> list[pathlib.Path]:
    return [path for path in _visible(folder) if path.is_dir()]


def _below(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    for path in _visible(folder):
        yield from _below(path) if path.is_dir() else [path]


def _class_folders(
    root: pathlib.Path,
) -> dict[str | None, list[pathlib.Path]]:
    """Finds the class folders of each split, or all under None."""
    inside = _folders(root)
    if not inside:
        raise UserError(
            f"{root}: holds no class folders; give each class a folder of "
            "sound files in it."
        )
    # A class may be called "test": only folders of folders are splits.
    splits = [p.name for p in inside if p.name in _SPLITS and _folders(p)]
    if not splits:
        return {None: inside}
    missing = [split for split in _SPLITS if split not in splits]
    if missing and splits != ["test"]:
        raise UserError(
            f"{root}: holds {', '.join(splits)} with class folders but no "
            f"{', '.join(missing)}; add it, or put all class folders "
            "directly into the folder."
        )
    others = [p.name for p in inside if p.name not in _SPLITS]
    if others:
        raise UserError(
            f"{root}: {others[0]} lies beside train, validation and test; "
            "move it into one of them or elsewhere."
        )
    found = {
        split: _folders(root / split) for split in _SPLITS if split in splits
    }
    home = {}
    for split, some in found.items():
        for folder in some:
            other = home.setdefault(folder.name, split)
            if other != split:
                raise UserError(
                    f"{folder}: class {folder.name} is also in {other}; "
                    "each class belongs to one split, rename or move one."
                )
    return found


def _sounds(folder: pathlib.Path) -> list[pathlib.Path]:
    """Lists the sound files of a class folder, sorted by name."""
    for inner in _folders(folder):
        if any(f.suffix.lower() in audio.EXTENSIONS for f in _below(inner)):
            raise UserError(
                f"{inner}: holds sound files inside of a class folder; put "
                "those of a class side by side into its own folder."
            )
    files = [path for path in _visible(folder) if path.is_file()]
    sounds = [f for f in files if f.suffix.lower() in audio.EXTENSIONS]
    if not sounds:
        others = sorted({f.suffix.lower() or f.name for f in files})
        holds = f"only {', '.join(others)} files" if others else "no files"
        raise UserError(
            f"{folder}: this class folder holds {holds}; put {_KINDS} "
            "files into it or remove it."
        )
    if others := len(files) - len(sounds):
        logging.warning(
            "%s: %d of %d files are not read; %s files are.",
            *(folder, others, len(files), _KINDS),
        )
    return sounds


def recording_of(pattern: str | None):
    """Returns the function file -> recording name of a pattern."""
    if pattern is None:
        return lambda file: file.name
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UserError(
            f"recording pattern {pattern!r}: not a regular expression "
            f"({error}); write one like '^(\\d+)-'."
        ) from error
    if compiled.groups != 1:
        raise UserError(
            f"recording pattern {pattern!r}: has {compiled.groups} groups; "
            "put exactly one pair of parentheses around the recording's "
            "name, as in '^(\\d+)-'."
        )

    def recording(file: pathlib.Path) -> str:
        match = compiled.search(file.name)
        if match is None or match.group(1) is None:
            raise UserError(
                f"{file}: recording pattern {pattern!r} does not match this "
                "file name; rename the file or change the pattern."
            )
        return match.group(1)

    return recording
