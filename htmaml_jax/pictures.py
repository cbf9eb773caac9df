"""Pictures of what a trained system does, for `evaluate --pictures`."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from htmaml_jax import slices
from htmaml_jax.data import audio
from htmaml_jax.outer import losses
from htmaml_jax.results import half_width

_ROWS = 5  # classes of the episode that is drawn
_COLUMNS = 8  # examples of each
_NAMED = 60  # classes on the map that bear their names


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
    if volumes:
        names = np.array(table.classes)[table.of_split(config.eval.split)]
        made |= slices.figures(seen.outputs, drawn, names)
    if classes:
        names = np.array(table.classes)[table.of_split(config.eval.split)]
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
        tasks = seen.summary, [table.domains[e.domain] for e in drawn]
        tokens = None
        if classes and seen.tokens.any():
            means, met = class_means(seen.tokens, drawn)
            tokens = means, families(table, names[met]), names[met]
        made["embeddings"] = embeddings(tasks, tokens)
    paths = []
    for name, figure in made.items():
        paths.append(folder / f"{name}.png")
        figure.savefig(paths[-1], dpi=120, bbox_inches="tight")
    return paths


def families(table: Any, names: Sequence[str]) -> list[str]:
    """Returns the family of classes: what the data says, or their domain.

    A class "Greek/alpha" is of the family Greek.
    """
    told = dict(zip(table.classes, table.families, strict=False))
    domains = dict(
        zip(
            table.classes, np.array(table.domains)[table.domain_of], strict=True
        )
    )
    return [
        told.get(name) or (name.split("/")[0] if "/" in name else domains[name])
        for name in names
    ]


def steps(scores: np.ndarray, metric: str, tuned: int = 0) -> Any:
    """Draws the metric [E, K + 1] before and after each inner step.

    With `tuned`, the last is after so many steps of tuning.
    """
    figure, axes = _figure(5, 3.5)
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
    figure, axes = _figure(size + 1, size)
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
    figure, grid = _figure(1.4 * columns, 1.6 * len(slots), len(slots), columns)
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


def class_means(
    tokens: np.ndarray, episodes: Sequence[Any]
) -> tuple[np.ndarray, np.ndarray]:
    """Averages class tokens [E, N, D] over the tasks that a class is in.

    Returns:
      Means [C, D] of the classes that were met, and which these are [C].
    """
    slots = np.concatenate([e.classes for e in episodes])
    flat = tokens.reshape(-1, tokens.shape[-1])
    met = np.unique(slots)
    means = np.stack([flat[slots == c].mean(0) for c in met])
    return means, met


def embeddings(
    tasks: tuple[np.ndarray, Sequence[str]],
    classes: tuple[np.ndarray, Sequence[str], Sequence[str]] | None = None,
) -> Any:
    """Draws points in two dimensions, coloured by what they are of.

    Args:
      tasks: embeddings [E, D] of tasks, and their domains.
      classes: mean tokens [C, D] of classes, their families and names.
    """
    panels = [("tasks, by domain", *tasks, ())]
    if classes is not None and len(classes[0]) > 2:
        panels.append(("classes, by family", *classes))
    figure, grid = _figure(6 * len(panels), 5, 1, len(panels))
    for axes, (title, points, kinds, names) in zip(
        np.atleast_1d(grid).ravel(), panels, strict=True
    ):
        flat, share = plane(points)
        for kind in dict.fromkeys(kinds):
            mine = np.array([k == kind for k in kinds])
            axes.scatter(*flat[mine].T, s=14, label=kind or "tasks")
        if len(names) <= _NAMED:
            for place, name in zip(flat, names, strict=False):
                axes.annotate(
                    _short(name),
                    place,
                    xytext=(4, 4),
                    textcoords="offset points",
                    fontsize=7,
                )
        if len(set(kinds)) <= 20:
            axes.legend(fontsize=7, framealpha=0.5)
        axes.set_title(title)
        axes.set_xlabel(f"first principal component ({share[0]:.0%})")
        axes.set_ylabel(f"second ({share[1]:.0%})")
    return figure


def plane(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Projects [n, D] on its two principal components, with their shares."""
    from sklearn.decomposition import PCA

    points = np.atleast_2d(points)
    if min(points.shape) < 2 or not np.ptp(points, axis=0).any():
        return np.zeros((len(points), 2)), np.zeros(2)
    pca = PCA(2, random_state=0)
    return pca.fit_transform(points), pca.explained_variance_ratio_


def _figure(width, height, rows=1, columns=1):
    # Not pyplot: it keeps every figure, and wants a screen.
    from matplotlib.figure import Figure

    figure = Figure((width, height), layout="constrained")
    return figure, figure.subplots(rows, columns)


def _show(axes, picture, title, color, sound):
    origin = "lower" if sound else "upper"
    axes.imshow(picture[..., 0], cmap="magma", aspect="auto", origin=origin)
    axes.set_title(_short(title), fontsize=6, color=color)


def _short(name):
    return str(name).split(": ")[-1][:26]
