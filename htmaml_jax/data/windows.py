"""Clips of any length at use time: overlapping windows of training's length."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from htmaml_jax.data import audio

# Below the loudest window of a clip, in decibels of mean power.
_QUIET_DB = 30.0


class Windows(NamedTuple):
    """All windows of one recording.

    Attributes:
      inputs: pictures [n, rows, columns, channels].
      starts: [n] seconds from its beginning.
      levels: [n] mean power in decibels; a full-scale sine has -3.
      seconds: how long it is.
    """

    inputs: np.ndarray
    starts: np.ndarray
    levels: np.ndarray
    seconds: float


def _starts(count: int, size: int) -> list[int]:
    """Returns the first samples of windows; the last ends with the wave."""
    return [*range(0, count - size, max(size // 2, 1)), max(count - size, 0)]


def _power(piece: np.ndarray) -> float:
    # An offset, as cheap recorders have, is no sound.
    return piece.var(dtype=np.float64)


def cut(wave: np.ndarray, front: audio.FrontEnd) -> np.ndarray:
    """Cuts a waveform of any length into windows [n, front.samples].

    They overlap by half, the last one ends where the waveform does. What is
    no longer than one window is repeated to its length. Each window is later
    scaled to its own loudest point, so those that would be blown up, quieter
    than the loudest by `_QUIET_DB` or more, are left out.
    """
    size = front.samples
    if len(wave) <= size:
        return audio.fit_length(wave, front)[None]
    pieces = [wave[i : i + size] for i in _starts(len(wave), size)]
    power = np.array([_power(x) for x in pieces])
    loud = power >= power.max() * 10 ** (-_QUIET_DB / 10)
    return np.stack([x for x, kept in zip(pieces, loud, strict=True) if kept])


def features(
    paths: Sequence[str | os.PathLike], front: audio.FrontEnd
) -> tuple[np.ndarray, np.ndarray]:
    """Turns all windows of sound files into pictures.

    Returns:
      Pictures [n, rows, columns, channels], and which file each is of [n].

    Raises:
      UserError: a file cannot be used; the message names it.
    """
    found, owners = [], []
    for i, path in enumerate(paths):
        for window in cut(audio.load_clip(path, front), front):
            found.append(audio.picture(window, front))
            owners.append(i)
    return np.stack(found), np.array(owners)


def listen(path: str | os.PathLike, front: audio.FrontEnd) -> Windows:
    """Turns one recording into pictures of all its windows, quiet ones too.

    Raises:
      UserError: the file cannot be used.
    """
    wave, size = audio.load_clip(path, front), front.samples
    starts = _starts(len(wave), size)
    pieces = [wave[i : i + size] for i in starts]
    power = np.maximum([_power(x) for x in pieces], 1e-12)
    return Windows(
        np.stack([audio.picture(x, front) for x in pieces]),
        np.array(starts) / front.rate,
        10 * np.log10(power),
        len(wave) / front.rate,
    )
