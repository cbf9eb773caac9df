"""Clips of any length at use time: overlapping windows of training's length."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from htmaml_jax.data import audio

# Below the loudest window of a clip, in decibels of mean power.
_QUIET_DB = 30.0
_BLOCK = 2**20  # samples that are read at a time


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


def stream(
    path: str | os.PathLike, front: audio.FrontEnd
) -> Iterator[np.ndarray]:
    """Yields what `audio.load_clip` returns in pieces: a night is long.

    Raises:
      UserError: see `audio.decode`; it may come behind some pieces.
    """
    import soundfile
    import soxr

    name, loudest, mixed = str(path), -1.0, 0.0
    if not os.path.isfile(path):
        audio.decode(path)  # says so
    try:
        with soundfile.SoundFile(path) as file:
            change = soxr.ResampleStream(file.samplerate, front.rate, 1)
            for block in file.blocks(_BLOCK, dtype="float32", always_2d=True):
                wave, loud = audio.mix(block, name)
                loudest = max(loudest, loud)
                mixed = max(mixed, float(np.abs(wave).max()))
                if file.samplerate != front.rate:
                    wave = change.resample_chunk(wave)
                yield wave
            if file.samplerate != front.rate:
                yield change.resample_chunk(np.zeros(0, np.float32), last=True)
    except audio.DAMAGE as error:
        raise audio.damaged(name) from error
    audio.refuse_unheard(loudest, mixed, name)


def listen(path: str | os.PathLike, front: audio.FrontEnd) -> Windows:
    """Turns one recording into pictures of all its windows, quiet ones too.

    Raises:
      UserError: the file cannot be used.
    """
    size, step = front.samples, max(front.samples // 2, 1)
    at, ahead = 0, np.zeros(0, np.float32)
    tail = ahead
    starts, found, power = [], [], []

    def see(start, piece):
        starts.append(start / front.rate)
        found.append(audio.picture(piece, front))
        power.append(max(_power(piece), 1e-12))

    for block in stream(path, front):
        ahead = np.concatenate([ahead, block])
        tail = np.concatenate([tail, block])[-size:]
        while len(ahead) > size:
            see(at, ahead[:size])
            at, ahead = at + step, ahead[step:]
    count = at + len(ahead)
    see(max(count - size, 0), tail)
    return Windows(
        np.stack(found),
        np.array(starts),
        10 * np.log10(power),
        count / front.rate,
    )
