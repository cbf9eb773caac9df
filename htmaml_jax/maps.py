"""The map of what a system says of tasks and classes, in two dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from htmaml_jax import slices

_NAMED = 60  # classes on the map that bear their names
_COLOURS = 10  # that can be told apart


def figure(
    tasks: tuple[np.ndarray, Sequence[str]],
    classes: tuple[np.ndarray, Sequence[str], Sequence[str]] | None = None,
) -> Any:
    """Draws points in two dimensions, coloured by what they are of.

    Args:
      tasks: embeddings [E, D] of tasks, and their domains or structures.
      classes: mean tokens [C, D] of classes, their families and names.
    """
    panels = [("tasks", *tasks, ())]
    if classes is not None and len(classes[0]) > 2:
        panels.append(("classes, by family", *classes))
    drawn, grid = slices.blank(6 * len(panels), 5, 1, len(panels))
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
                    slices.short(name),
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
    return drawn


def plane(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Projects [n, D] on its two principal components, with their shares."""
    from sklearn.decomposition import PCA

    points = np.atleast_2d(points)
    if min(points.shape) < 2 or not np.ptp(points, axis=0).any():
        return np.zeros((len(points), 2)), np.zeros(2)
    pca = PCA(2, random_state=0)
    return pca.fit_transform(points), pca.explained_variance_ratio_


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


def kinds(
    table: Any, episodes: Sequence[Any], structures: np.ndarray | None = None
) -> list[str]:
    """Returns what tells tasks apart: their domains.

    Of volumes, whose names are `structures`, what they ask for, if that is
    few.
    """
    if structures is not None:
        asked = [" and ".join(structures[e.classes]) for e in episodes]
        if len(set(asked)) <= _COLOURS:
            return asked
    return [table.domains[e.domain] for e in episodes]


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
