"""Tables of results with a column for each of several benchmarks."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import summary

from htmaml_jax import intervals, results


def table(found: list[dict], pattern: str) -> str:
    """Returns Markdown: one table for several benchmarks, a column each.

    A cell is the mean over folds and seeds; the difference is paired over
    the episodes of all benchmarks that a row and the `htmaml` of the same
    variant, or of what of it says how it was judged, or the plain one have in
    common. Where some systems have met more folds than others do, rows of all
    of them with the folds of the latter come first.

    Args:
      found: results.
      pattern: of their benchmarks; its groups are column and fold.
    """
    names = [re.fullmatch(pattern, x["benchmark"]) for x in found]
    sets = sorted({name[1] for name in names})
    rows: dict[tuple, dict[tuple, list[dict]]] = {}
    for name, x in zip(names, found, strict=True):
        key = (x["way"], x["shot"], results.label(x))
        episodes = tuple(x[name] for name in results.SAME)
        place = (name[1], name[2], episodes)
        rows.setdefault(key, {}).setdefault(place, []).append(x)
    folded = any(name[2] for name in names)
    heads = ["setting", "system", *["folds"] * folded, "seeds", *sets, "mean"]
    heads += ["htmaml minus it", "minutes", "parameters"]
    lines = [row(heads), row(["---"] * len(heads))]
    for key, folds in _groups(rows):
        one = next(iter(rows[key].values()))[0]
        how = summary.judged(one["variant"]) or "default"
        labels = [
            results.label(one | {"system": "htmaml", "variant": variant})
            for variant in (summary.whole(one["variant"]), how, "default")
        ]
        known = (rows.get((*key[:2], label)) for label in labels)
        ours = next(filter(None, known), {})
        mine, theirs = (
            {place: x for place, x in one.items() if place[1] in folds}
            for one in (rows[key], ours)
        )
        told = [", ".join(sorted(filter(None, folds)))] if folded else []
        apart = "" if ours is rows[key] else _apart(theirs, mine)
        lines.append(_row(key[2], mine, sets, told, apart))
    return "\n".join(lines)


def _groups(rows):
    """Lists (key of a row, its folds), each as often as it is to be shown.

    Those of one encoder are set side by side.
    """

    def reads(places):
        return next(iter(places.values()))[0]["config"]["data"]["encoder"]

    folds = {
        key: frozenset(p[1] for p in places) for key, places in rows.items()
    }
    shown = []
    for key, places in rows.items():
        beside = {
            folds[other]
            for other, more in rows.items()
            if other[:2] == key[:2] and reads(more) == reads(places)
        }
        for some in beside:
            if some <= folds[key]:
                group = (*key[:2], reads(places) == "ngrams", len(some))
                shown.append((group, key, some))
    shown.sort(key=lambda x: (x[0], sorted(map(str, x[2])), x[1]))
    return [(key, some) for _, key, some in shown]


def _apart(ours, places):
    """Writes the mean difference over what both have met."""
    common = places.keys() & ours.keys()
    if not common:
        return ""
    both = [{place: x[place] for place in common} for x in (ours, places)]
    values = summary.values(both[0]) - summary.values(both[1])
    shown = results.unit(next(iter(places.values()))[0])
    return shown.write(values.mean(), intervals.half_width(values), "+")


def _row(label, places, sets, told, apart):
    every = [x for mine in places.values() for x in mine]
    shown = results.unit(every[0])
    means = []
    for part in sets:
        of_set = [
            np.mean([x["mean"] for x in mine])
            for (collection, *_), mine in places.items()
            if collection == part
        ]
        means.append(np.mean(of_set) if of_set else None)
    means.append(None if None in means else np.mean(means))
    cells = (
        results.setting(every[0]),
        label,
        *told,
        ", ".join(sorted({str(x["seed"]) for x in every})),
        *(
            "" if x is None else f"{shown.factor * x:.{shown.places}f}"
            for x in means
        ),
        apart,
        f"{np.mean([x['train']['minutes'] for x in every]):.1f}",
        f"{parameters(every[0]['train']):,}",
    )
    return row(cells)


def row(cells: Sequence[str]) -> str:
    """Returns a line of Markdown."""
    return f"| {' | '.join(cells)} |"


def parameters(train: dict) -> int:
    """Counts them, without what only joint training tells classes by."""
    sizes = train["parameters"]
    return sum(sizes.values()) - sizes.get("joint", 0)


def scope(found: Sequence[dict]) -> str:
    """Returns Markdown: how well queries of no class are told from others.

    AUROC by the largest probability and by the largest logit, mean of the
    folds and seeds of a row, which all had as many tasks.
    """
    rows: dict[tuple, list[dict]] = {}
    for x in found:
        if "out_of_scope" in x:
            key = (x["way"], x["shot"], results.label(x))
            rows.setdefault(key, []).append(x)
    heads = ("setting", "system", "folds", "probability", "logit")
    lines = [row(heads), row(["---"] * len(heads))]
    for key, mine in sorted(rows.items()):
        scores = [
            np.mean([x["out_of_scope"]["auroc"][kind]["mean"] for x in mine])
            for kind in heads[3:]
        ]
        folds = sorted({x["config"]["data"]["fold"] for x in mine} - {0})
        told = ", ".join(map(str, folds)) or "all"
        setting = results.setting(mine[0])
        written = [f"{100 * score:.1f}" for score in scores]
        lines.append(row((setting, key[2], told, *written)))
    return "\n".join(lines)
