"""How sure means are: intervals of results, and of their differences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import stdtrit

from htmaml_jax.data.mixture import OF


def half_width(values: np.ndarray) -> float:
    """Returns half the 95 % confidence interval of a mean, by Student's t."""
    if len(values) < 2:
        return float("nan")
    within = stdtrit(len(values) - 1, 0.975)
    return float(within * np.std(values, ddof=1) / np.sqrt(len(values)))


def rounded(half: float) -> float | None:
    """Returns half an interval for a JSON, which knows no NaN."""
    return round(half, 5) if np.isfinite(half) else None


def summary(values: np.ndarray) -> dict[str, float | None]:
    """Returns {"mean", "ci95"} of the metric; one episode has no interval."""
    return {
        "mean": round(float(values.mean()), 5),
        "ci95": rounded(half_width(values)),
    }


def are_of_volumes(found: Sequence[dict[str, Any]]) -> bool:
    """Tells whether results are of volumes."""
    return all("surfaces" in x for x in found)


def by_structure(
    found: Sequence[dict[str, Any]],
) -> dict[str, dict[str, float]]:
    """Returns structure -> volume -> Dice, over episodes and seeds."""
    each: dict[str, dict[str, list[float]]] = {}
    for result in found:
        for name, of in result["surfaces"]["by_structure"].items():
            mine = each.setdefault(name, {})
            for case, volume in of["volumes"].items():
                mine.setdefault(case, []).append(volume["dice"])
    return {
        name: {case: float(np.mean(x)) for case, x in mine.items()}
        for name, mine in each.items()
    }


def subject_of(found: Sequence[dict[str, Any]], case: str) -> str:
    """Returns whose a volume is: by the name of the first of these."""
    return found[0]["surfaces"].get("subjects", {}).get(case, case)


def _half_of_subjects(found, dice):
    """Returns half the 95 % interval of the mean Dice of episodes.

    Structures are given and weigh as they were asked for; drawn are subjects
    of each domain, and what is of one counts as one: the variance between
    clusters within strata, with Satterthwaite's degrees of freedom (Cochran,
    Sampling Techniques, 1977, chapters 5 and 9). A domain of one subject has
    no variance that could be seen.

    Args:
      found: results.
      dice: structure -> volume -> Dice of them, or a difference of it.
    """
    asked = found[0]["surfaces"]["by_structure"]
    whole = sum(asked[name]["answers"] for name in dice)
    domains: dict[str, dict[str, float]] = {}
    for name, mine in dice.items():
        apart = domains.setdefault(name.rpartition(OF)[0], {})
        mean = np.mean(list(mine.values()))
        share = asked[name]["answers"] / whole / len(mine)
        for case, x in mine.items():
            subject = subject_of(found, case)
            apart[subject] = apart.get(subject, 0.0) + share * (x - mean)
    count = np.array([len(apart) for apart in domains.values()])
    if count.min() < 2:
        return float("nan")
    squares = [sum(x**2 for x in d.values()) for d in domains.values()]
    variance = count / (count - 1) * np.array(squares)
    if not variance.any():
        return 0.0
    freedom = variance.sum() ** 2 / (variance**2 / (count - 1)).sum()
    return float(stdtrit(freedom, 0.975) * np.sqrt(variance.sum()))


def interval(found: Sequence[dict[str, Any]], domain: str = "") -> float:
    """Returns half the 95 % interval of the mean of one system's results.

    Each episode is first averaged over training seeds. Several episodes ask
    for one volume, so that of volumes it is subjects that count; `domain`
    looks at one of a mixture of them.
    """
    if are_of_volumes(found):
        of = by_structure(found).items()
        mark = domain and f"{domain}{OF}"
        return _half_of_subjects(
            found, {k: x for k, x in of if k.startswith(mark)}
        )
    return half_width(np.mean([x["values"] for x in found], axis=0))


def difference(
    a: Sequence[dict[str, Any]], b: Sequence[dict[str, Any]]
) -> tuple[float, float]:
    """Returns mean and half 95 % interval of the paired difference a - b.

    See `interval`.
    """
    means = [np.mean([x["values"] for x in side], axis=0) for side in (a, b)]
    values = means[0] - means[1]
    mean = float(values.mean())
    if are_of_volumes([*a, *b]):
        one, two = by_structure(a), by_structure(b)
        dice = {
            name: {case: x - two[name][case] for case, x in of.items()}
            for name, of in one.items()
        }
        return mean, _half_of_subjects(a, dice)
    return mean, half_width(values)
