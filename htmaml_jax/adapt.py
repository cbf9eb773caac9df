"""Uses a trained model on one's own data: load, adapt, predict.

Clips and texts here, volumes in `adapt_volumes`.
"""

from __future__ import annotations

import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from etils import epath

from htmaml_jax import evaluate
from htmaml_jax.config import needs_domain
from htmaml_jax.errors import UserError

_BLOCK = 64  # inputs that are predicted at a time

if TYPE_CHECKING:
    from htmaml_jax.adapt_volumes import VolumeModel


class Guess(NamedTuple):
    """What a model says of one clip or text.

    Attributes:
      item: the path of the clip, or the text.
      name: the most probable class.
      probability: of that class.
      probabilities: of every class.
    """

    item: pathlib.Path | str
    name: str
    probability: float
    probabilities: dict[str, float]


class Heard(NamedTuple):
    """What a model says of one window of a recording.

    Attributes:
      start, end: seconds from its beginning.
      name: the most probable class.
      probability: of that class.
      probabilities: of every class.
      level: mean power of the window in decibels, 0 for full scale.
    """

    start: float
    end: float
    name: str
    probability: float
    probabilities: dict[str, float]
    level: float


class Specialist:
    """A model adapted to classes of one's own."""

    def __init__(self, model, log_odds, names):
        self._model, self._log_odds = model, log_odds
        self._names = names

    def predict(self, items: Iterable[str | pathlib.Path]) -> list[Guess]:
        """Classifies clips or texts, each on its own.

        Of a clip longer than those of training the logits of overlapping
        windows are averaged.

        Raises:
          UserError: a file is missing or is not sound, a text is no text.
        """
        items = self._model.items(items)
        if not items:
            return []
        inputs, owners = self._model.read(items)
        each = self._judge(inputs)
        # What normalises a window's logits is the same for all classes.
        mean = np.stack([each[owners == i].mean(0) for i in range(len(items))])
        said = self._most(mean)
        return [Guess(x, *one) for x, one in zip(items, said, strict=True)]

    def listen(self, recording: str | pathlib.Path) -> list[Heard]:
        """Says what is heard when: one entry for each window of a recording.

        Windows are as long as clips in training and overlap by half. Every
        one gets a class, so that a class of background sounds among those
        of the support set is well worth it.

        Raises:
          UserError: the file is missing or is not sound, or the model
            reads texts.
        """
        found = self._model.listen(recording)
        said = self._most(self._judge(found.inputs))
        long = min(self._model.seconds, found.seconds)
        return [
            Heard(float(start), float(start + long), *one, float(level))
            for start, level, one in zip(
                found.starts, found.levels, said, strict=True
            )
        ]

    def _judge(self, inputs):
        """Returns log-odds [n, classes]."""
        blocks = [
            self._log_odds(_padded(inputs[i : i + _BLOCK]))
            for i in range(0, len(inputs), _BLOCK)
        ]
        return np.concatenate(blocks)[: len(inputs)]

    def _most(self, log_odds):
        """Lists (name, probability, probabilities)."""
        odds = np.exp(log_odds - log_odds.max(1, keepdims=True))
        odds /= odds.sum(1, keepdims=True)
        said = []
        for row in odds:
            odd = dict(zip(self._names, map(float, row), strict=True))
            name = max(odd, key=odd.get)
            said.append((name, odd[name], odd))
        return said


class Model:
    """A meta-trained model, ready to adapt; made by `load`."""

    def __init__(self, workdir: str | pathlib.Path, restored: tuple):
        from htmaml_jax.data import audio, find
        from htmaml_jax.data.table import Scale

        info, self._meta, self._config = restored
        self.data = info["data"]
        known = self.data["front_end"]
        self.texts = "encoder" in known
        each = [x for x in known.values() if isinstance(x, Mapping)]
        if each and all(map(audio.is_sound, each)):
            raise UserError(
                f"{workdir} was trained on {self.data['name']}, whose pictures "
                "are made in different ways; give a run on one of them."
            )
        if not (self.texts or audio.is_sound(known)):
            raise UserError(
                f"{workdir} was trained on {self.data['name']}, not on "
                "sounds, texts or volumes; give a run on these."
            )
        self._scale = Scale(*info["data"]["scale"])
        self._front = find.front_end(self._config.data)

    def items(self, items: Iterable[str | pathlib.Path]) -> list:
        """Returns paths of clips, or texts."""
        if isinstance(items, (str, pathlib.Path)):
            raise UserError(f"{str(items)!r} is one item; give a list of them.")
        items = list(items)
        for item in items:
            if self.texts and not isinstance(item, str):
                raise UserError(f"{item!r} is no text; this model reads texts.")
            if not isinstance(item, (str, pathlib.Path)):
                raise UserError(f"{item!r} is no path of a sound file.")
        return items if self.texts else list(map(pathlib.Path, items))

    def read(
        self, items: Sequence[pathlib.Path | str]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Turns clips or texts into inputs, as in training.

        Returns:
          Inputs [n, ...], and which item each is of [n]: one of a text, as
          many as it has windows of a clip.
        """
        from htmaml_jax.data import clips, texts
        from htmaml_jax.run import workdir as workdirs

        if self.texts:
            made, settings = texts.inputs(items, self._config.data, keep=False)
            workdirs.refuse_other_encoder(
                "the model", self.data, {"front_end": settings}
            )
            return made, np.arange(len(items))
        inputs, owners = clips.read_clips(items, self._front)
        return self._scale(inputs), owners

    @property
    def seconds(self) -> float:
        """Returns how long a window of sound is."""
        return self._front.samples / self._front.rate

    def listen(self, recording: str | pathlib.Path) -> Any:
        """Returns all `windows.Windows` of a recording, as inputs."""
        from htmaml_jax.data import windows

        if self.texts:
            raise UserError("this model reads texts and cannot listen.")
        found = windows.listen(recording, self._front)
        return found._replace(inputs=self._scale(found.inputs))

    def adapt(
        self, support: Mapping[str, Sequence[str | pathlib.Path]]
    ) -> Specialist:
        """Adapts to classes given by name, with a few clips or texts each.

        The windows of a long clip count as much as one short clip together.

        Raises:
          UserError: fewer than two classes, a class without examples,
            or one that cannot be read.
        """
        from htmaml_jax.data import texts
        from htmaml_jax.episode import Batch
        from htmaml_jax.run import step

        if not isinstance(support, Mapping):
            raise UserError(
                "adapting needs a dict of lists: {'frog': [...], 'elk': [...]}."
            )
        names = list(support)
        if len(names) < 2:
            raise UserError("adapting needs at least two classes.")
        if labels := self.data["front_end"].get("labels"):
            if set(names) != set(labels):
                raise UserError(
                    f"this model knows the classes {', '.join(labels)} and no "
                    "others; name your examples so."
                )
            names = labels
        known = []
        for name in names:
            if isinstance(support[name], (str, pathlib.Path)):
                raise UserError(
                    f"class {name!r} has {str(support[name])!r} for its "
                    "examples; give a list."
                )
            known.append(list(support[name]))
            if not known[-1]:
                raise UserError(f"class {name!r} has no examples; add some.")
        if self._config.data.label_names:
            known = [
                [texts.words(n), *x] for n, x in zip(names, known, strict=True)
            ]
        sizes = [len(mine) for mine in known]
        items = self.items(x for mine in known for x in mine)
        targets = np.repeat(np.arange(len(names), dtype=np.int32), sizes)
        inputs, owners = self.read(items)
        batch = Batch(
            inputs=inputs,
            targets=targets[owners],
            mask=1 / np.bincount(owners).astype(np.float32)[owners],
        )
        learner = evaluate.build(self._config, len(names))
        log_odds = step.specialise(learner, self._meta, batch)
        return Specialist(self, log_odds, names)


def _padded(inputs):
    """Pads to a power of two: few sizes, few compilations."""
    size = 1 << (len(inputs) - 1).bit_length()
    return np.resize(inputs, (size, *inputs.shape[1:]))


def load(
    workdir: str | pathlib.Path,
    series: str = "best",
    encoder: str = "",
    finetune: int = 0,
    bend: float = 0.0,
) -> Model | VolumeModel:
    """Loads a trained model from the workdir of a run.

    Args:
      workdir: folder written by train.
      series: "best" by validation, or "latest".
      encoder: of texts, where its folder is not where it was in training.
      finetune: steps of Adam on the support set after the inner loop; the
        run's `eval.finetune_rate` and `eval.finetune_batch` say how.
      bend: how far volumes are bent anew in each of these, below 1/3.
    """
    if bend and not finetune:
        raise UserError("bend is for steps of finetune; give their number.")
    moved = [("data.encoder", encoder)] if encoder else []
    moved += [("eval.finetune", str(finetune))] if finetune else []
    moved += [("eval.finetune_bend", str(bend))] if bend else []
    restored = evaluate.restore(epath.Path(workdir), series, moved)
    info, meta, config = restored
    if needs_domain(config):
        raise UserError(
            f"{workdir} must be told the domain of a task; give a run of "
            "another system."
        )
    if config.net.output == "voxels":
        from htmaml_jax.adapt_volumes import VolumeModel

        settings = info["data"]["front_end"]
        # Of sources that are joined each has its own.
        each = [settings] if "side" in settings else settings.values()
        windows = {tuple(one.get("window") or ()) for one in each}
        window = windows.pop() if len(windows) == 1 else ()
        return VolumeModel(meta, config, window or None)
    return Model(workdir, restored)
