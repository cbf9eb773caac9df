"""Pictures of what a trained system does, for `evaluate --pictures`."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from htmaml_jax import maps, slices
from htmaml_jax.data import audio
from htmaml_jax.intervals import half_width
from htmaml_jax.outer import losses

_ROWS = 5  # classes of the episode that is drawn
_COLUMNS = 8  # examples of each


def write(
    folder: pathlib.Path,
    learner: Any,
    meta: Any,
    table: Any,
    source: Any,
    episodes: int = 200,
) -> list[pathlib.Path]:
    """Looks at the first episodes of a source and draws what there is.

    Args:
      folder: for the pictures; made if it is not there.
      learner: of the form of the episodes, which its config's `eval` counts.
      meta: what training has learned.
      table: the data.
      source: of the episodes.
      episodes: how many at most.

    Returns:
      The files: accuracy after each inner step; of classes the confusion
      between them, of pictures and sounds one episode with what was
      predicted; of systems that read the support set, the map of what they
      say of tasks and classes.
    """
    import matplotlib

    # A name with dollars in it is no formula.
    with matplotlib.rc_context({"text.parse_math": False}):
        return _write(folder, learner, meta, table, source, episodes)


def _write(folder, learner, meta, table, source, episodes):
    import jax

    from htmaml_jax.run import look as looks

    config = learner.config
    count = min(episodes, config.eval.episodes)
    see = looks.make_look(learner, source.episodes)
    pieces = source.pieces(0, 1)
    seen, drawn = [], []
    volumes = config.net.output == "voxels"
    for _ in range(count):
        episode, found = jax.tree.map(
            np.asarray, see(meta, source.shared, next(pieces))
        )
        if volumes:  # 200 tasks of logits would fill the memory
            said = losses.structures(found.outputs[[0, -1]])
            found = found._replace(outputs=np.asarray(said, np.uint8))
            episode = episode._replace(support=None)
        seen.append(found)
        drawn.append(episode)
    seen = jax.tree.map(lambda *x: np.stack(x), *seen)
    folder.mkdir(parents=True, exist_ok=True)
    metric = losses.PROBLEMS[config.net.output].metric
    made = {"steps": steps(seen.scores, metric, config.eval.finetune)}
    classes = config.net.output == "classes"
    if volumes or classes:
        names = np.array(table.classes)[table.of_split(config.eval.split)]
    if volumes:
        made |= slices.figures(seen.outputs, drawn, names)
    if classes:
        made["confusion"] = confusion(seen.outputs[:, -1], drawn, names)
        if getattr(table, "kind", "") == "pictures":
            settings = table.front_end
            if len(table.domains) > 1:
                settings = settings[table.domains[drawn[0].domain]]
            made["episode"] = episode_figure(
                drawn[0],
                seen.outputs[0, -1].argmax(1),
                names,
                audio.is_sound(settings),
            )
    if seen.summary.shape[1]:
        kinds = maps.kinds(table, drawn, names if volumes else None)
        tasks = seen.summary, kinds
        tokens = None
        if classes and seen.tokens.any():
            means, met = maps.class_means(seen.tokens, drawn)
            tokens = means, maps.families(table, names[met]), names[met]
        made["embeddings"] = maps.figure(tasks, tokens)
    paths = []
    for name, figure in made.items():
        paths.append(folder / f"{name}.png")
        figure.savefig(paths[-1], dpi=120, bbox_inches="tight")
    return paths


def steps(scores: np.ndarray, metric: str, tuned: int = 0) -> Any:
    """Draws the metric [E, K + 1] before and after each inner step.

    With `tuned`, the last is after so many steps of tuning.
    """
    figure, axes = slices.blank(5, 3.5)
    x = np.arange(scores.shape[1])
    half = [half_width(scores[:, k]) for k in x]
    axes.errorbar(x, scores.mean(0), half, marker="o", capsize=3)
    names = [str(k) for k in x]
    if tuned:
        names[-1] = f"tuned {tuned}"
    axes.set_xticks(x, names)
    axes.set_xlabel("inner steps")
    axes.set_ylabel(f"{metric} on queries")
    axes.set_title(f"{len(scores)} tasks, 95 % CI")
    return figure


def confusion(
    outputs: np.ndarray, episodes: Sequence[Any], names: Sequence[str]
) -> Any:
    """Draws how often queries of a class are taken for which other.

    Of rows only those classes count that were together in a task.

    Args:
      outputs: [E, Q, N].
      episodes: the E tasks.
      names: of the classes of the split [C].
    """
    counts = confusion_counts(outputs, episodes, len(names))
    met = counts.sum(1) > 0
    counts, names = counts[met][:, met], np.asarray(names)[met]
    share = counts / counts.sum(1, keepdims=True)
    size = np.clip(0.28 * len(names), 4, 14)
    figure, axes = slices.blank(size + 1, size)
    shown = axes.imshow(share, cmap="viridis", vmin=0, vmax=1)
    figure.colorbar(shown, ax=axes, label="share of the class's queries")
    if len(names) <= 60:
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
        axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.set_xlabel("predicted")
    axes.set_ylabel("class")
    return figure


def confusion_counts(
    outputs: np.ndarray, episodes: Sequence[Any], classes: int
) -> np.ndarray:
    """Counts [C, C] queries by class and by the class they are taken for."""
    counts = np.zeros((classes, classes), np.int64)
    for output, episode in zip(outputs, episodes, strict=True):
        real = episode.query.mask > 0
        of = episode.classes[episode.query.targets]
        said = episode.classes[output.argmax(1)]
        np.add.at(counts, (of[real], said[real]), 1)
    return counts


def episode_figure(
    episode: Any, said: np.ndarray, names: Sequence[str], sound: bool = True
) -> Any:
    """Draws support and queries of one task, with what was predicted.

    Args:
      episode: the task.
      said: [Q] the class slot that each query is taken for.
      names: of the classes of the split.
      sound: whether row 0 is the lowest frequency, not the top.
    """
    support, query = episode.support, episode.query
    slots = [n for n in range(len(episode.classes)) if n in support.targets]
    slots = slots[:_ROWS]
    most = [
        np.bincount(side.targets, side.mask > 0).max(initial=1)
        for side in (support, query)
    ]
    columns = int(min(_COLUMNS, sum(most)))
    figure, grid = slices.blank(
        1.4 * columns, 1.6 * len(slots), len(slots), columns
    )
    for row, slot in zip(np.atleast_2d(grid), slots, strict=True):
        mine = np.flatnonzero((support.targets == slot) & (support.mask > 0))
        asked = np.flatnonzero((query.targets == slot) & (query.mask > 0))
        mine = mine[: columns // 2]
        asked = asked[: columns - len(mine)]
        for axes in row:
            axes.axis("off")
        for axes, i in zip(row, mine, strict=False):
            name = names[episode.classes[slot]]
            _show(axes, support.inputs[i], name, "black", sound)
        for axes, i in zip(row[len(mine) :], asked, strict=False):
            color = "green" if said[i] == slot else "red"
            name = names[episode.classes[said[i]]]
            _show(axes, query.inputs[i], name, color, sound)
    figure.suptitle(
        "black: support and its class; green: right, red: wrong", fontsize=9
    )
    return figure


def _show(axes, picture, title, color, sound):
    origin = "lower" if sound else "upper"
    axes.imshow(picture[..., 0], cmap="magma", aspect="auto", origin=origin)
    axes.set_title(slices.short(title), fontsize=6, color=color)
