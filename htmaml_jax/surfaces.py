"""How near predicted structures are to true ones: volume by volume.

Dice, the 95 % Hausdorff distance and surface Dice (Nikolov et al., JMIR 2021,
as its authors' library `surface-distance` computes them), the latter two in
mm, or in voxels where the size of these is unknown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from htmaml_jax import intervals


def answers(learner: Any, meta: Any, episode: Any, read: Any = None):
    """Adapts to an episode's support and answers its queries; traced.

    Returns:
      The query metric [], predicted and true structures [Q, D, H, W] uint8,
      1 to N, or 0 for the background.
    """
    adapted = learner.adapt(meta, episode.support, episode.domain, read)
    query = episode.query
    outputs = learner.predict(adapted, query.inputs, query.mask)
    score = learner.problem.score(outputs, query)
    # Doors that say only how they are used do not wait for JAX.
    from htmaml_jax.outer import losses

    found = losses.structures(outputs)
    return score, *(x.astype("uint8") for x in (found, query.targets))


def distances(
    found: np.ndarray, truth: np.ndarray, spacing: Sequence[float], near: float
) -> dict[str, float | None]:
    """Compares two masks [D, H, W] bool on one grid.

    Args:
      found: the prediction.
      truth: the annotation.
      spacing: [3], size of a cell.
      near: surfaces at most so far apart count as one in surface Dice.

    Returns:
      {"dice", "hd95", "surface_dice"}; where one of both is empty there is
      no distance, None, and surface Dice is 0.
    """
    import surface_distance as library

    sizes = found.sum() + truth.sum()
    dice = float(2 * (found & truth).sum() / sizes) if sizes else 1.0
    if not (found.any() and truth.any()):
        empty = not sizes
        return {
            "dice": dice,
            "hd95": 0.0 if empty else None,
            "surface_dice": float(empty),
        }
    apart = library.compute_surface_distances(truth, found, list(spacing))
    return {
        "dice": dice,
        "hd95": float(library.compute_robust_hausdorff(apart, 95)),
        "surface_dice": float(
            library.compute_surface_dice_at_tolerance(apart, near)
        ),
    }


def compare(
    found: np.ndarray,
    truth: np.ndarray,
    table: Any,
    rows: np.ndarray,
    classes: np.ndarray,
    near: float,
) -> dict[str, Any]:
    """Compares the answers of test episodes with the truth; see `report`.

    Args:
      found, truth: [E, Q, D, H, W], 1 to N of structures.
      table: of volumes, which the episodes are drawn from.
      rows: [E, 1, Q] of that table.
      classes: [E, N] of that table, the structures of each episode.
      near: tolerance of surface Dice.
    """
    told, about = [], table.masks
    for episode, _, query in np.ndindex(rows.shape):
        row, place = rows[episode, 0, query], (episode, query)
        for slot, label in enumerate(classes[episode], 1):
            both = (x[place] == slot for x in (found, truth))
            told.append(
                {
                    "structure": table.classes[label],
                    "case": str(about.cases[row]),
                    "subject": int(table.recordings[row]),
                    "unit": str(about.units[row]),
                    **distances(*both, about.spacing[row], near),
                }
            )
    return report(told, near)


def report(rows: Sequence[Mapping[str, Any]], near: float) -> dict[str, Any]:
    """Sums up what `distances` said of volumes, by structure.

    A volume is asked for in several episodes, and a subject may have several
    volumes: all that is of one is averaged first, so that intervals are over
    subjects.

    Args:
      rows: {"structure", "case", "subject", "unit", "dice", "hd95",
        "surface_dice"}.
      near: tolerance of surface Dice.

    Returns:
      {"tolerance", "by_structure", "subjects"}; the last tells of each
      volume, but the first, of a subject which the first is.
    """
    first: dict[Any, str] = {}
    by: dict[str, dict[str, list]] = {}
    for row in sorted(rows, key=lambda row: row["case"]):
        first.setdefault(row["subject"], row["case"])
        mine = by.setdefault(row["structure"], {})
        mine.setdefault(row["case"], []).append(row)
    subjects = {row["case"]: first[row["subject"]] for row in rows}
    subjects = {k: x for k, x in sorted(subjects.items()) if k != x}
    out = {}
    for structure, cases in sorted(by.items()):
        every = [row for mine in cases.values() for row in mine]
        volumes = {case: _means(mine) for case, mine in cases.items()}
        out[structure] = {
            "unit": every[0]["unit"],
            "answers": len(every),
            "without_distance": sum(row["hd95"] is None for row in every),
            **over_subjects(volumes, subjects),
            "volumes": volumes,
        }
    return {"tolerance": near, "by_structure": out, "subjects": subjects}


def over_subjects(
    volumes: Mapping[str, Mapping[str, float | None]],
    subjects: Mapping[str, str],
) -> dict[str, dict[str, float | None]]:
    """Returns each metric's {"mean", "ci95"} over subjects; see `report`."""
    of: dict[str, list] = {}
    for case, volume in volumes.items():
        of.setdefault(subjects.get(case, case), []).append(volume)
    means = [_means(mine) for mine in of.values()]
    return {key: _summary([mean[key] for mean in means]) for key in _KEYS}


_KEYS = ("dice", "hd95", "surface_dice")


def _means(rows):
    """Averages each metric where there is one."""
    found = {key: [r[key] for r in rows if r[key] is not None] for key in _KEYS}
    return {
        key: round(float(np.mean(there)), 4) if there else None
        for key, there in found.items()
    }


def _summary(values):
    there = np.array([v for v in values if v is not None])
    if not len(there):
        return {"mean": None, "ci95": None}
    return intervals.summary(there)
