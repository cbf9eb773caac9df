"""A data set and a config so small that whole runs fit in a test."""

from __future__ import annotations

import pathlib

import numpy as np
import soundfile

RATE = 4000
FIELDS = {
    "system": "maml",  # compiles in a fraction of htmaml's time
    "data.rate": RATE,
    "data.window": 128,
    "data.hop": 64,
    "data.mels": 16,
    "data.seconds": 0.25,
    "data.rows": 8,
    "data.columns": 8,
    "data.way": 3,
    "data.shot": 1,
    "data.min_shot": 0,
    "data.query": 2,
    "eval.way": 3,
    "eval.query": 2,
    "eval.episodes": 60,
    "net.blocks": 2,
    "net.width": 8,
    "embed.width": 8,
    "embed.dim": 16,
    "hyper.dim": 16,
    "hyper.layers": 1,
    "train.tasks": 2,
    "train.val_episodes": 20,
    "inner.steps": 2,
    "outer.mix": 0.0,  # compiles in half the time
}


# What configs/asc.py does to sounds and nobody to texts.
UNCHANGED = {
    f"outer.augment.{name}": 0.0
    for name in ("roll", "time_mask", "row_mask", "gain", "blend")
}


def write_clips(
    root: pathlib.Path, classes: int = 20, clips: int = 5
) -> pathlib.Path:
    """Writes a folder of tones, one class per pitch."""
    rng = np.random.default_rng(0)
    time = np.arange(int(0.25 * RATE)) / RATE
    for label in range(classes):
        folder = root / f"tone{label:02}"
        folder.mkdir(parents=True)
        for clip in range(clips):
            pitch = 90 * (label + 1) * rng.uniform(0.95, 1.05)
            wave = np.sin(2 * np.pi * pitch * time + rng.uniform(0, 6))
            wave += rng.normal(0, 0.3, len(time))
            soundfile.write(folder / f"{clip}.wav", 0.2 * wave, RATE)
    return root


def arguments(
    data: pathlib.Path, workdir: pathlib.Path, **fields: object
) -> list[str]:
    """Returns the command line of `train` on such a folder."""
    merged = FIELDS | {"data.dir": data} | fields
    config = pathlib.Path(__file__).parent.parent / "configs/asc.py"
    return [
        f"--config={config}",
        f"--workdir={workdir}",
        *(f"--config.{name}={value}" for name, value in merged.items()),
    ]


def pictures(classes: int, each: int, seed: int) -> np.ndarray:
    """Draws `each` noisy copies of a picture per class: [M, 8, 8, 1]."""
    rng = np.random.default_rng(seed)
    patterns = rng.random((classes, 8, 8, 1))
    noise = rng.random((classes * each, 8, 8, 1))
    copies = np.repeat(patterns, each, axis=0)
    return (0.7 * copies + 0.3 * noise).astype(np.float32)
