"""Arabic Speech Commands: 40 spoken words, one second each.

Ghandoura, Hjabo and Al Dakkak, EAAI 2021 (CC BY 4.0). Tasks test the ten
digits; nine other words are for validation. A speaker's takes of a word count
as one recording, so no query is another take of a support clip. Speakers are
in all splits: those of the publisher's test are too few for 5 shots.
"""

from __future__ import annotations

import dataclasses
import io
import pathlib
import re

import numpy as np

from htmaml_jax.data import audio, cache
from htmaml_jax.data.archives import Files, folder_files, matching, stamps
from htmaml_jax.data.table import Table
from htmaml_jax.errors import UserError

FOLDER = "arabic_speech_commands"
MARKS = ("arabic_speech_commands_16k_ogg.zip", "dataset")
EXPECTED = (
    "dataset/WORD/SPEAKER_NO_TAKE.wav (or .ogg), or an archive of it, of "
    "https://github.com/abdulkaderghandoura/arabic-speech-commands-dataset"
)
TEST = "zero one two three four five six seven eight nine"
VALIDATION = "rotate,send,start,stop,undo,up,yes,zoom in,zoom out"
_CLIP = re.compile(r"(?:^|/)dataset/([^/]+)/(\d+)_NO_\d+\.(?:wav|ogg)$")


def read(folder: pathlib.Path, front: audio.FrontEnd) -> Table:
    """Reads a folder or the archive in it.

    Clips last a second: a longer `front.seconds` would only repeat them.
    """
    front = dataclasses.replace(front, seconds=min(front.seconds, 1.0))
    files = folder_files(folder)
    found = matching(files, _CLIP)
    if not found:
        raise UserError(f"{folder} holds no clips; expected {EXPECTED}.")
    classes = tuple(sorted({row[0] for row in found}))
    held = {
        "validation": tuple(VALIDATION.split(",")),
        "test": tuple(sorted(TEST.split())),
    }
    missing = {w for words in held.values() for w in words} - set(classes)
    if missing:
        raise UserError(
            f"{folder} lacks the word {min(missing)!r}; expected {EXPECTED}."
        )
    names = [row[2] for row in found]
    key = {
        "kind": "commands",
        "front": front.asdict(),
        "files": stamps(files, names),
    }
    inputs = cache.cached(
        key, lambda: {"inputs": _pictures(files, names, front)}
    )["inputs"]
    position = {name: i for i, name in enumerate(classes)}
    _, recordings = np.unique(
        [f"{word}/{speaker}" for word, speaker, _ in found],
        return_inverse=True,
    )
    out = {word for words in held.values() for word in words}
    return Table(
        name="commands",
        origin=str(folder),
        inputs=inputs,
        labels=np.array([position[row[0]] for row in found], np.int32),
        recordings=recordings.astype(np.int32),
        classes=classes,
        splits={"train": tuple(c for c in classes if c not in out), **held},
        licence="CC BY 4.0",
        front_end=front.asdict(),
    )


def _pictures(files: Files, names: list[str], front: audio.FrontEnd):
    rows = []
    for name in cache.show_progress(names):
        data = io.BytesIO(files[name].read())
        rows.append(audio.picture(audio.load_clip(data, front, name), front))
    return np.stack(rows)
