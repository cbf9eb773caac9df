"""Synthetic animal-like calls: a data set that needs no download.

A species is a way of calling: pitch, harmonics, resonances, rhythm and
noisiness. Individuals vary within their species, and every recording has
its own distance, background and echo. Clips of one recording share its
individual and its conditions.
"""

from __future__ import annotations

import numpy as np
import scipy.fft

from htmaml_jax.data import audio, cache
from htmaml_jax.data.table import Table
from htmaml_jax.errors import UserError

# Raise it with any change that alters a rendered sample.
VERSION = 1
CLIPS_PER_RECORDING = 3

# First words of the generator seeds, so that no two draws share a stream.
_SPECIES, _RECORDING, _CLIP = 0, 1, 2


def _log_uniform(rng: np.random.Generator, low: float, high: float, size=None):
    return np.exp(rng.uniform(np.log(low), np.log(high), size))


def _species(seed: int, species: int) -> dict[str, object]:
    """Draws what a species' calls have in common."""
    rng = np.random.default_rng([seed, _SPECIES, species])
    trills = rng.random() < 0.4
    wavers = rng.random() < 0.5
    return {
        "pitch": _log_uniform(rng, 200, 3500),  # Hz
        "glide": rng.normal(0, 0.6),  # octaves, start to end of a syllable
        "arch": rng.normal(0, 0.5),  # octaves, rise in the middle
        "vibrato": rng.uniform(0.03, 0.15) if wavers else 0.0,  # octaves
        "vibrato_rate": _log_uniform(rng, 5, 30),  # Hz
        "leap": rng.normal(0, 0.4) * (rng.random() < 0.4),  # octaves
        "drift": rng.normal(0, 0.08),  # octaves a syllable
        "harmonics": int(rng.integers(1, 13)),
        "odd": rng.random() < 0.2,
        "tilt": rng.uniform(2, 14),  # dB an octave
        "formants": _log_uniform(rng, 350, 6000, 3),  # Hz
        "sharpness": rng.uniform(0.15, 0.6, 3),  # octaves
        "boost": rng.uniform(3, 22, 3),  # dB
        "noise": rng.beta(0.5, 1.0),  # share of hiss in a syllable
        "band": _log_uniform(rng, 500, 6000),  # Hz
        "width": rng.uniform(0.2, 1.2),  # octaves
        "count": int(rng.integers(1, 8)),  # syllables in a bout
        "duration": _log_uniform(rng, 0.05, 0.7),  # seconds
        "gap": _log_uniform(rng, 0.04, 0.5),  # seconds
        "rest": _log_uniform(rng, 0.4, 1.8),  # seconds between bouts
        "trill": rng.uniform(0.5, 1.0) if trills else 0.0,  # depth
        "trill_rate": _log_uniform(rng, 8, 50),  # Hz
        "attack": rng.uniform(0.05, 0.6),  # share of the syllable
    }


def _individual(voice: dict[str, object], rng: np.random.Generator):
    """Varies a species' voice into one animal's."""
    out = dict(voice)
    out["pitch"] *= 2 ** rng.normal(0, 0.12)
    out["formants"] = voice["formants"] * 2 ** rng.normal(0, 0.1)
    out["band"] *= 2 ** rng.normal(0, 0.12)
    out["glide"] += rng.normal(0, 0.12)
    out["arch"] += rng.normal(0, 0.1)
    out["tilt"] += rng.normal(0, 1.5)
    out["noise"] = np.clip(voice["noise"] + rng.normal(0, 0.08), 0, 1)
    for name in ("duration", "gap", "rest", "trill_rate", "vibrato_rate"):
        out[name] *= np.exp(rng.normal(0, 0.2))
    return out


def _conditions(rng: np.random.Generator) -> dict[str, object]:
    """Draws where and how one recording was made."""
    return {
        "snr": rng.uniform(14, 40),  # dB, call against background
        "colour": rng.uniform(0.5, 1.5),  # 0 white, 1 pink, 2 brown
        "hum": _log_uniform(rng, 80, 5000),  # Hz, a hump in the background
        "hum_db": rng.uniform(0, 10),
        "cutoff": _log_uniform(rng, 3500, 12000),  # Hz: distance dulls
        "gain": 10 ** rng.uniform(-1.5, -0.1),
        "echo": rng.uniform(0, 0.6),
        "decay": _log_uniform(rng, 0.05, 0.5),  # seconds
    }


def _smooth(length: int, attack: float) -> np.ndarray:
    """Returns an envelope [length] that rises and falls without a click."""
    at = np.arange(length) / max(length, 1)
    rise = np.clip(at / attack, 0, 1)
    fall = np.clip((1 - at) / (1 - attack), 0, 1)
    return np.sin(np.pi / 2 * np.minimum(rise, fall)) ** 2


def _hump(frequency: np.ndarray, centre: float, octaves: float) -> np.ndarray:
    distance = np.log2(np.maximum(frequency, 1.0) / centre) / octaves
    return np.exp(-0.5 * np.square(distance))


def _syllable(
    voice: dict[str, object], place: int, rng: np.random.Generator, rate: int
) -> np.ndarray:
    """Renders the `place`-th syllable of a bout at full scale."""
    seconds = voice["duration"] * np.exp(rng.normal(0, 0.1))
    length = max(int(seconds * rate), 32)
    time = np.arange(length) / rate
    at = np.linspace(0, 1, length)
    octaves = (
        voice["glide"] * (at - 0.5)
        + voice["arch"] * (4 * at * (1 - at) - 0.5)
        + voice["vibrato"] * np.sin(2 * np.pi * voice["vibrato_rate"] * time)
        + voice["leap"] * (place % 2)
        + voice["drift"] * place
        + rng.normal(0, 0.03)
    )
    pitch = voice["pitch"] * 2**octaves
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    step = 2 if voice["odd"] else 1
    tone = np.zeros(length)
    for k in range(1, step * voice["harmonics"] + 1, step):
        frequency = k * pitch
        if frequency.min() > 0.45 * rate:
            break
        level = -voice["tilt"] * np.log2(k)
        for centre, width, boost in zip(
            voice["formants"], voice["sharpness"], voice["boost"], strict=True
        ):
            level = level + boost * _hump(frequency, centre, width)
        # Harmonics fade out below the Nyquist frequency: no aliases.
        audible = np.clip((0.48 * rate - frequency) / (0.03 * rate), 0, 1)
        tone += audible * 10 ** (level / 20) * np.sin(k * phase)
    size = scipy.fft.next_fast_len(length, real=True)
    grid = scipy.fft.rfftfreq(size, 1 / rate)
    hiss = scipy.fft.rfft(rng.standard_normal(size))
    hiss *= _hump(grid, voice["band"], voice["width"])
    hiss = scipy.fft.irfft(hiss, size)[:length]
    mix = (1 - voice["noise"]) * _unit(tone) + voice["noise"] * _unit(hiss)
    beat = 0.5 - 0.5 * np.cos(2 * np.pi * voice["trill_rate"] * time)
    return mix * _smooth(length, voice["attack"]) * (1 - voice["trill"] * beat)


def _unit(wave: np.ndarray) -> np.ndarray:
    """Scales a waveform to a root mean square of 1, silence to itself."""
    return wave / max(np.sqrt(np.mean(np.square(wave))), 1e-9)


def _sing(
    voice: dict[str, object], rng: np.random.Generator, front: audio.FrontEnd
) -> np.ndarray:
    """Places bouts of syllables over one clip."""
    out = np.zeros(front.samples)
    cursor = rng.uniform(0, 0.6 * voice["rest"])
    while cursor < front.seconds:
        count = max(1, voice["count"] + int(rng.integers(-1, 2)))
        loudness = 10 ** (rng.normal(0, 2) / 20)
        for place in range(count):
            start = int(cursor * front.rate)
            if start >= len(out):
                break
            call = loudness * _syllable(voice, place, rng, front.rate)
            end = min(start + len(call), len(out))
            out[start:end] += call[: end - start]
            gap = voice["gap"] * np.exp(rng.normal(0, 0.15))
            cursor += len(call) / front.rate + gap
        cursor += voice["rest"] * np.exp(rng.normal(0, 0.3))
    return out


def _record(
    call: np.ndarray,
    place: dict[str, object],
    rng: np.random.Generator,
    rate: int,
) -> np.ndarray:
    """Adds distance, echo and background to a clean call."""
    tail = int(3 * place["decay"] * rate)
    size = scipy.fft.next_fast_len(len(call) + tail, real=True)
    grid = scipy.fft.rfftfreq(size, 1 / rate)
    echo = rng.standard_normal(tail)
    echo *= np.exp(-np.arange(tail) / (place["decay"] * rate))
    echo *= place["echo"] / max(np.linalg.norm(echo), 1e-9)
    echo[:1] += 1.0
    far = scipy.fft.rfft(call, size) * scipy.fft.rfft(echo, size)
    far /= np.sqrt(1 + (grid / place["cutoff"]) ** 4)
    far = _unit(scipy.fft.irfft(far, size)[: len(call)])
    noise = scipy.fft.rfft(rng.standard_normal(size))
    noise *= np.maximum(grid, 50.0) ** (-place["colour"] / 2)
    noise *= 10 ** (place["hum_db"] / 20 * _hump(grid, place["hum"], 0.5))
    noise = _unit(scipy.fft.irfft(noise, size)[: len(call)])
    return far + noise * 10 ** (-place["snr"] / 20)


def render(
    seed: int, species: int, clip: int, front: audio.FrontEnd
) -> np.ndarray:
    """Renders one clip, a pure function of its arguments.

    Args:
      seed: of the whole set, 0 or more.
      species: index of the species, 0 or more.
      clip: index of the clip; three in a row share a recording.
      front: its rate and seconds are used.

    Returns:
      The waveform [front.samples] float32, within -1 and 1.
    """
    recording = clip // CLIPS_PER_RECORDING
    rng = np.random.default_rng([seed, _RECORDING, species, recording])
    voice = _individual(_species(seed, species), rng)
    place = _conditions(rng)
    rng = np.random.default_rng([seed, _CLIP, species, clip])
    wave = _record(_sing(voice, rng, front), place, rng, front.rate)
    return (wave * place["gain"] / np.abs(wave).max()).astype(np.float32)


def calls(
    front: audio.FrontEnd, species: int = 48, clips: int = 24, seed: int = 0
) -> Table:
    """Builds the table of synthetic calls, cached on disk.

    Args:
      front: the audio settings, the same as for real recordings.
      species: number of classes, at least 3: the last quarter is for
        tests, the eighth before it for validation.
      clips: examples of each class, three from one recording.
      seed: of the whole set.

    Raises:
      UserError: a number is too small.
    """
    if species < 3 or clips < 1 or seed < 0:
        raise UserError(
            f"synthetic calls: {species} species, {clips} clips, seed "
            f"{seed}; give at least 3 species, 1 clip and seed 0."
        )
    pairs = [(s, c) for s in range(species) for c in range(clips)]

    def compute():
        rows = [
            audio.picture(render(seed, s, c, front), front)
            for s, c in cache.show_progress(pairs)
        ]
        return {"inputs": np.stack(rows)}

    key = {
        "kind": "synthetic-calls",
        "code": VERSION,
        "front": front.asdict(),
        "species": species,
        "clips": clips,
        "seed": seed,
    }
    at = np.array(pairs)
    per_species = -(-clips // CLIPS_PER_RECORDING)
    digits = max(2, len(str(species - 1)))
    classes = tuple(f"species-{s:0{digits}d}" for s in range(species))
    test = max(1, round(species / 4))
    validation = max(1, round(species / 8))
    train = species - validation - test
    return Table(
        name="synthetic-calls",
        origin="built-in synthetic calls",
        inputs=cache.cached(key, compute)["inputs"],
        labels=at[:, 0].astype(np.int32),
        recordings=(
            at[:, 0] * per_species + at[:, 1] // CLIPS_PER_RECORDING
        ).astype(np.int32),
        classes=classes,
        splits={
            "train": classes[:train],
            "validation": classes[train : train + validation],
            "test": classes[train + validation :],
        },
        licence="generated, CC0-1.0",
        front_end=front.asdict(),
    )
