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

    A volume is asked for in several episodes: of each all answers are
    averaged first, so that intervals are over volumes. "subjects" tells of
    each volume, but the first, of a subject which the first is.

    Args:
      rows: {"structure", "case", "subject", "unit", "dice", "hd95",
        "surface_dice"}.
      near: tolerance of surface Dice.
    """
    by: dict[str, dict[str, list]] = {}
    for row in rows:
        by.setdefault(row["structure"], {}).setdefault(row["case"], []).append(
            row
        )
    out = {}
    for structure, cases in sorted(by.items()):
        means = {
            case: {k: _mean([r[k] for r in mine]) for k in _KEYS}
            for case, mine in sorted(cases.items())
        }
        every = [r for mine in cases.values() for r in mine]
        out[structure] = {
            "unit": every[0]["unit"],
            "answers": len(every),
            "without_distance": sum(r["hd95"] is None for r in every),
            **{k: _summary([m[k] for m in means.values()]) for k in _KEYS},
            "volumes": means,
        }
    first: dict[Any, str] = {}
    for row in sorted(rows, key=lambda row: row["case"]):
        first.setdefault(row["subject"], row["case"])
    subjects = {row["case"]: first[row["subject"]] for row in rows}
    several = {k: x for k, x in sorted(subjects.items()) if k != x}
    return {"tolerance": near, "by_structure": out, "subjects": several}


_KEYS = ("dice", "hd95", "surface_dice")


def _mean(values):
    there = [v for v in values if v is not None]
    return round(float(np.mean(there)), 4) if there else None


def _summary(values):
    there = np.array([v for v in values if v is not None])
    if not len(there):
        return {"mean": None, "ci95": None}
    return intervals.summary(there)
