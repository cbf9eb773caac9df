"""Clips of any length at use time: overlapping windows of training's length."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from htmaml_jax.data import audio

# Below the loudest window of a clip, in decibels of mean power.
_QUIET_DB = 30.0


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
    starts = [*range(0, len(wave) - size, max(size // 2, 1)), len(wave) - size]
    pieces = [wave[start : start + size] for start in starts]
    # An offset, as cheap recorders have, is no sound.
    power = np.array([x.var(dtype=np.float64) for x in pieces])
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
