"""Pictures of volumes: sections with the outlines of truth and prediction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

_PLANES = ("sagittal", "coronal", "axial")  # across x, y, z of RAS
_TRUTH, _FOUND = "cyan", "orange"


def figures(
    found: np.ndarray, episodes: Sequence[Any], names: Sequence[str]
) -> dict[str, Any]:
    """Draws the best, the median and the worst volume of each structure.

    Args:
      found: [E, 2, Q, D, H, W], what queries were taken for before and after
        the inner loop, 1 to N of structures; axes are those of RAS.
      episodes: the E tasks, of whose queries inputs [Q, D, H, W, C] and
        masks [Q, D, H, W] are looked at.
      names: of the structures of the split.

    Returns:
      A figure by name: a row for each volume; columns are planes, before and
      after the inner loop.
    """
    made = {}
    classes = np.array([episode.classes for episode in episodes])
    for label in np.unique(classes):
        scored = []
        for e, slot in zip(*np.nonzero(classes == label), strict=True):
            query = episodes[e].query
            for q in np.flatnonzero(query.mask):
                same = (
                    x == slot + 1 for x in (found[e, 1, q], query.targets[q])
                )
                scored.append((overlap(*same), e, q, slot + 1))
        scored.sort(reverse=True)
        picked = {
            "best": scored[0],
            "median": scored[len(scored) // 2],
            "worst": scored[-1],
        }
        rows = []
        for which, (score, e, q, number) in picked.items():
            query = episodes[e].query
            image, truth = query.inputs[q, ..., 0], query.targets[q] == number
            said = found[e, :, q] == number
            first = overlap(said[0], truth)
            title = f"{which}: Dice {first:.2f}, then {score:.2f}"
            rows.append((title, image, truth, said))
        name = str(names[label])
        kept = "".join(c if c.isalnum() else "-" for c in name)
        made[f"volumes-{kept}"] = figure(name, len(scored), rows)
    return made


def overlap(found: np.ndarray, truth: np.ndarray) -> float:
    """Returns the Dice coefficient of two masks; 1 where both are empty."""
    total = np.sum(found > 0) + np.sum(truth > 0)
    return float(2 * np.sum((found > 0) & (truth > 0)) / total) if total else 1


def figure(title: str, count: int, rows: Sequence[Any]) -> Any:
    """Draws (title, image, truth, found [2]) row by row."""
    made, grid = blank(2 * 6, 2.2 * len(rows) + 0.6, len(rows), 6)
    for line, (text, image, truth, found) in zip(
        np.atleast_2d(grid), rows, strict=True
    ):
        low, high = np.percentile(image, (1, 99))
        for column, axes in enumerate(line):
            axis, after = column % 3, column // 3
            at = fullest(truth, axis)
            # RAS: upwards is superior or anterior, rightwards right or
            # anterior.
            cut, mask, said = (
                np.take(x, at, axis).T for x in (image, truth, found[after])
            )
            axes.imshow(cut, cmap="gray", origin="lower", vmin=low, vmax=high)
            outline(axes, mask, _TRUTH)
            outline(axes, said, _FOUND)
            axes.axis("off")
            when = "after" if after else "before"
            axes.set_title(f"{_PLANES[axis]}, {when}", fontsize=7)
        line[0].text(0, 1.25, text, transform=line[0].transAxes, fontsize=8)
    made.suptitle(
        f"{title}: {count} answers; {_TRUTH}: truth, {_FOUND}: prediction "
        "before and after the inner loop",
        fontsize=9,
    )
    return made


def fullest(mask: np.ndarray, axis: int) -> int:
    """Returns the section that shows most of a mask [D, H, W]."""
    others = tuple(a for a in range(3) if a != axis)
    return int(np.argmax(np.sum(mask, others)))


def outline(axes: Any, cut: np.ndarray, color: str) -> None:
    """Draws the border of a section [H, W], where there is one."""
    if cut.any() and not cut.all():
        axes.contour(cut.astype(float), [0.5], colors=color, linewidths=0.9)


def blank(
    width: float, height: float, rows: int = 1, columns: int = 1
) -> tuple[Any, Any]:
    """Returns a figure of so many inches and its axes."""
    # Not pyplot: it keeps every figure, and wants a screen.
    from matplotlib.figure import Figure

    figure = Figure((width, height), layout="constrained")
    return figure, figure.subplots(rows, columns)


def short(name: str) -> str:
    """Returns the name of a class without that of its table, cut."""
    return str(name).split(": ")[-1][:26]
