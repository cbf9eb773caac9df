"""Uses a trained model on one's own clips: load, adapt, predict."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from etils import epath

from htmaml_jax import evaluate
from htmaml_jax.config import needs_domain
from htmaml_jax.errors import UserError


class Guess(NamedTuple):
    """What a model says of one clip.

    Attributes:
      path: the clip.
      name: the most probable class.
      probability: of that class.
      probabilities: of every class.
    """

    path: pathlib.Path
    name: str
    probability: float
    probabilities: dict[str, float]


class Specialist:
    """A model adapted to classes of one's own."""

    def __init__(self, read, probabilities, names):
        self._read, self._probabilities = read, probabilities
        self._names = names

    def predict(self, paths: Iterable[str | pathlib.Path]) -> list[Guess]:
        """Classifies clips, each on its own.

        Raises:
          UserError: a file is missing or is not sound.
        """
        paths = [pathlib.Path(p) for p in paths]
        if not paths:
            return []
        odds = np.asarray(self._probabilities(self._read(paths)))
        guesses = []
        for path, row in zip(paths, odds, strict=True):
            odd = dict(zip(self._names, map(float, row), strict=True))
            name = max(odd, key=odd.get)
            guesses.append(Guess(path, name, odd[name], odd))
        return guesses


class Model:
    """A meta-trained model, ready to adapt; made by `load`."""

    def __init__(self, workdir: str | pathlib.Path, series: str = "best"):
        from htmaml_jax.data import find
        from htmaml_jax.data.table import Scale

        info, self._meta, self._config = evaluate.restore(
            epath.Path(workdir), series
        )
        self.data = info["data"]
        known = self.data["front_end"]
        if "mels" not in known and "pack" not in known:
            raise UserError(
                f"{workdir} was trained on {self.data['name']}, not on "
                "clips; give a run on sounds."
            )
        if needs_domain(self._config):
            raise UserError(
                f"{workdir} must be told the domain of a task; give a run of "
                "another system."
            )
        self._scale = Scale(*info["data"]["scale"])
        # As in training, where a data set may have had its own seconds.
        seconds = known.get("seconds", self._config.data.seconds)
        front = find.front_end(self._config.data)
        self._front = dataclasses.replace(front, seconds=seconds)

    def read(self, paths: Sequence[pathlib.Path]) -> np.ndarray:
        """Turns sound files into inputs [n, H, W, 1], as in training."""
        from htmaml_jax.data import clips

        return self._scale(clips.read_clips(paths, self._front))

    def adapt(
        self, support: Mapping[str, Sequence[str | pathlib.Path]]
    ) -> Specialist:
        """Adapts to classes given by name, with a few clips each.

        Raises:
          UserError: fewer than two classes, a class without clips, or a
            file that is not sound.
        """
        from htmaml_jax.episode import Batch
        from htmaml_jax.run import step

        names = list(support)
        if len(names) < 2:
            raise UserError("adapting needs at least two classes.")
        for name in names:
            if not support[name]:
                raise UserError(f"class {name!r} has no clips; add some.")
        sizes = [len(support[name]) for name in names]
        paths = [pathlib.Path(p) for name in names for p in support[name]]
        batch = Batch(
            inputs=self.read(paths),
            targets=np.repeat(np.arange(len(names), dtype=np.int32), sizes),
            mask=np.ones(len(paths), np.float32),
        )
        learner = evaluate.build(self._config, len(names))
        probabilities = step.specialise(learner, self._meta, batch)
        return Specialist(self.read, probabilities, names)


def load(workdir: str | pathlib.Path, series: str = "best") -> Model:
    """Loads a trained model from the workdir of a run.

    Args:
      workdir: folder written by train.
      series: "best" by validation, or "latest".
    """
    return Model(workdir, series)
