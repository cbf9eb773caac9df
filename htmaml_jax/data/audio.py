"""The audio front end: sound files in, small log-mel pictures out."""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import BinaryIO

import numpy as np
from PIL import Image

from htmaml_jax.data import cache
from htmaml_jax.errors import UserError

EXTENSIONS = (".wav", ".flac", ".ogg", ".mp3")

LEVELS = ("log", "pcen")

# One step of 24-bit audio: below it there is no sound, only rounding.
_SILENCE = 2.0**-23
_ABSURD = 1e6  # no recorder has written that
# What soundfile raises on files that it cannot read.
DAMAGE = (OSError, RuntimeError, TypeError, ValueError)


@dataclasses.dataclass(frozen=True)
class FrontEnd:
    """Settings that turn a waveform into a picture.

    Attributes:
      rate: samples per second after resampling.
      window: samples in one Fourier window.
      hop: samples between windows.
      mels: mel bands between 0 Hz and rate / 2.
      seconds: length every clip is cut or repeated to.
      top_db: dynamic range in decibels below the loudest point.
      rows: height of the picture, low frequencies first.
      columns: width of the picture.
      channels: 1 for the level; 2 adds how fast it changes, which a picture
        of a tenth of the frames no longer shows; 3 adds its first and second
        deltas instead.
      level: "log" for decibels, or "pcen", which follows the background
        and shows what stands out of it.
    """

    rate: int = 16000
    window: int = 1024
    hop: int = 512
    mels: int = 128
    seconds: float = 5.0
    top_db: float = 80.0
    rows: int = 32
    columns: int = 40
    channels: int = 1
    level: str = "log"

    def __post_init__(self):
        for name, value in dataclasses.asdict(self).items():
            if name != "level" and not value > 0:
                raise UserError(
                    f"audio front end: {name} is {value}; give a positive "
                    "number."
                )
        for name, allowed in (("channels", (1, 2, 3)), ("level", LEVELS)):
            if (value := getattr(self, name)) not in allowed:
                raise UserError(
                    f"audio front end: {name} is {value}; choose from "
                    f"{', '.join(map(str, allowed))}."
                )

    @property
    def samples(self) -> int:
        """Samples of a clip of `seconds`, at least one."""
        return max(1, round(self.seconds * self.rate))

    def asdict(self) -> dict[str, int | float | str]:
        """Returns the settings as a plain dictionary.

        Decibels go without saying, as in what was cached before there was
        anything else.
        """
        settings = dataclasses.asdict(self)
        if self.level == "log":
            del settings["level"]
        return settings


def is_sound(settings: Mapping[str, object]) -> bool:
    """Says whether a table's front end was given sounds."""
    return "mels" in settings or "pack" in settings


def decode(
    file: str | os.PathLike | BinaryIO, name: str | None = None
) -> tuple[np.ndarray, int]:
    """Reads a sound file as it is, mixed down to one channel.

    Args:
      file: a path, or a binary file object.
      name: what error messages call it; by default its path.

    Returns:
      The waveform [samples] float32 (full scale is 1), and its rate in Hz.

    Raises:
      UserError: it is missing, not sound, empty, holds NaN, infinity or
        numbers far beyond full scale, or its channels cancel out.
    """
    import soundfile

    is_path = isinstance(file, (str, os.PathLike))
    name = name or str(file if is_path else getattr(file, "name", "clip"))
    if is_path and not os.path.isfile(file):
        raise UserError(f"{name}: no such file; check the path.")
    try:
        wave, rate = soundfile.read(file, dtype="float32", always_2d=True)
    except DAMAGE as error:
        raise damaged(name) from error
    mixed, loudest = mix(wave, name)
    refuse_unheard(loudest, np.abs(mixed).max(initial=0.0), name)
    return mixed, int(rate)


def damaged(name: str) -> UserError:
    """Returns what is said where reading ends in one of `DAMAGE`."""
    return UserError(
        f"{name}: cannot be read as sound (damaged, or not a wav, flac, "
        "ogg or mp3 file); replace or remove it."
    )


def mix(wave: np.ndarray, name: str) -> tuple[np.ndarray, float]:
    """Mixes [samples, channels] down to one; returns also their loudest."""
    loudest = np.abs(wave).max(initial=-1.0)
    if not loudest < _ABSURD:
        raise UserError(
            f"{name}: holds NaN or infinite samples, or some beyond "
            f"{_ABSURD:.0e} where full scale is 1; export it again."
        )
    return wave.mean(1), float(loudest)


def refuse_unheard(loudest: float, mixed: float, name: str) -> None:
    """Refuses a file by its loudest sample, -1 without any, and when mixed."""
    if loudest < 0:
        raise UserError(f"{name}: holds no samples; replace or remove it.")
    if loudest > _SILENCE and mixed < 1e-3 * loudest:
        raise UserError(
            f"{name}: its channels cancel each other out; export one of them."
        )


def resample(wave: np.ndarray, rate: int, front: FrontEnd) -> np.ndarray:
    """Brings a waveform [samples] from `rate` Hz to `front.rate`."""
    import librosa

    if rate == front.rate:
        return np.asarray(wave, np.float32)
    out = librosa.resample(wave, orig_sr=rate, target_sr=front.rate)
    return out.astype(np.float32)


def load_clip(
    file: str | os.PathLike | BinaryIO,
    front: FrontEnd,
    name: str | None = None,
) -> np.ndarray:
    """Reads a wav, flac, ogg or mp3 file as mono [samples] at front.rate.

    Raises:
      UserError: see `decode`.
    """
    return resample(*decode(file, name), front)


def fit_length(wave: np.ndarray, front: FrontEnd) -> np.ndarray:
    """Cuts or repeats a waveform to exactly [front.samples] float32.

    A longer one keeps its window of greatest energy (the first of equals),
    a shorter one is repeated from its start.
    """
    size = front.samples
    if len(wave) > size:
        energy = np.cumsum(np.square(wave, dtype=np.float64))
        energy = np.concatenate([[0.0], energy])
        start = int(np.argmax(energy[size:] - energy[:-size]))
        wave = wave[start : start + size]
    return np.resize(np.asarray(wave, np.float32), size)


@functools.lru_cache(maxsize=8)
def _mel_basis(front: FrontEnd) -> np.ndarray:
    import librosa

    return librosa.filters.mel(
        sr=front.rate, n_fft=front.window, n_mels=front.mels
    )


def log_mel(wave: np.ndarray, front: FrontEnd) -> np.ndarray:
    """Computes the mel spectrogram [mels, frames] float32 in [0, 1].

    Row 0 is the lowest band. In decibels 1 is the loudest point of the clip
    and 0 lies `front.top_db` or more below it; of PCEN (per-channel energy
    normalisation, Wang et al., ICASSP 2017) 1 is the highest point. Silence
    gives zeros. The mel scale is Slaney's (librosa's default; Slaney, Auditory
    Toolbox, 1998).
    """
    import librosa

    peak = np.abs(wave).max(initial=0.0)
    offset = np.mean(wave) if len(wave) else 0.0
    # Of cheap recorders: it would be the loudest of all. A smaller one cannot
    # be seen.
    if abs(offset) > 0.01 * peak:
        wave = wave - offset
        peak = np.abs(wave).max(initial=0.0)
    if peak < _SILENCE:
        return np.zeros((front.mels, len(wave) // front.hop + 1), np.float32)
    # Unit peak keeps quiet clips clear of the absolute floor (amin) of
    # power_to_db, which would otherwise turn them into a flat picture.
    waves = librosa.stft(wave / peak, n_fft=front.window, hop_length=front.hop)
    if front.level == "pcen":
        # Of magnitudes on the scale of 32-bit samples, as librosa advises.
        size = _mel_basis(front) @ np.abs(waves) * 2.0**31
        level = librosa.pcen(size, sr=front.rate, hop_length=front.hop)
        return (level / max(level.max(), 1e-9)).astype(np.float32)
    power = _mel_basis(front) @ np.square(np.abs(waves))
    db = librosa.power_to_db(power, ref=np.max, top_db=front.top_db)
    return np.clip(1 + db / front.top_db, 0, 1).astype(np.float32)


def shrink(spec: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Resizes a picture [h, w] to [rows, columns] float32, antialiased."""
    picture = Image.fromarray(np.asarray(spec, np.float32))
    picture = picture.resize((columns, rows), Image.Resampling.BILINEAR)
    return np.asarray(picture, np.float32)


def layers(spec: np.ndarray, front: FrontEnd) -> np.ndarray:
    """Shrinks a spectrogram [mels, frames] to [rows, columns, channels].

    The channels are the level and, of two, the mean absolute change of level
    per 20 ms, times 4 to bring it to the same order; of three, its first and
    second deltas in the same unit (librosa's, over 9 frames), where 0.5 is no
    change.
    """
    planes = [spec]
    unit = 4 * 0.02 * spec.shape[1] / front.seconds
    if front.channels == 2:
        change = np.abs(np.diff(spec, axis=1, prepend=spec[:, :1]))
        planes.append(np.minimum(unit * change, 1))
    elif front.channels == 3:
        import librosa

        for order in (1, 2):
            delta = librosa.feature.delta(spec, order=order, mode="nearest")
            planes.append(0.5 + np.clip(unit**order * delta, -1, 1) / 2)
    small = [shrink(x, front.rows, front.columns) for x in planes]
    return np.clip(np.stack(small, axis=-1), 0, 1)


def picture(wave: np.ndarray, front: FrontEnd) -> np.ndarray:
    """Turns a waveform at front.rate into [rows, columns, channels]."""
    return layers(log_mel(fit_length(wave, front), front), front)


def features(
    paths: Sequence[str | os.PathLike], front: FrontEnd, progress: bool = True
) -> np.ndarray:
    """Turns sound files into [M, rows, columns, channels], cached on disk.

    The cache is keyed by the settings and by every file's path, size and
    time of change.

    Args:
      paths: M sound files.
      front: the settings.
      progress: shows a bar where the error stream is a terminal.

    Raises:
      UserError: a file cannot be used; the message names it.
    """
    files = [pathlib.Path(path) for path in paths]
    key = {
        "kind": "files",
        "front": front.asdict(),
        "files": cache.stamps(files),
    }

    def compute():
        rows = [picture(load_clip(f, front), front) for f in bar(files)]
        shape = (0, front.rows, front.columns, front.channels)
        return {"inputs": np.stack(rows) if rows else np.zeros(shape, "f4")}

    bar = functools.partial(cache.show_progress, progress=progress)
    return cache.cached(key, compute)["inputs"]
