"""The first table of README.md: HT-MAML beside MAML and its best rival."""

from __future__ import annotations

import itertools
import re

import numpy as np

from htmaml_jax import intervals, results, transfer

ORACLES = ("multi-maml",)  # are told what the others must find out
HEADS = (
    *("benchmark", "setting", "metric", "htmaml", "maml"),
    *("closest rival", "htmaml minus it"),
)


def table(found: list[dict], together: dict[str, str]) -> str:
    """Returns Markdown: a row per benchmark and setting.

    Several seeds of a system are averaged episode by episode. Of benchmarks
    that share a row those count that HT-MAML and MAML have met, and rivals
    that have met these all; of ablations none, but `prototype`, whose only
    variant is what needs no training. What was tuned by gradient steps behind
    the inner loop has rows of its own.

    Args:
      found: results.
      together: name -> pattern of benchmarks that become one row, the mean of
        all that both have met.
    """

    def key(x):
        name = part_of(x["benchmark"], together) or x["benchmark"]
        return (name, x["way"], x["shot"], x["metric"], judged(x["variant"]))

    rows = [f"| {' | '.join(HEADS)} |", f"|{'---|' * len(HEADS)}"]
    kept = [x for x in found if x["inductive"] and _counts(x)]
    for place, of_one in itertools.groupby(sorted(kept, key=key), key):
        systems: dict[str, dict[tuple, list]] = {}
        for x in of_one:
            episodes = tuple(x[name] for name in results.SAME)
            met = systems.setdefault(x["system"], {})
            met.setdefault((x["benchmark"], episodes), []).append(x)
        ours = systems.pop("htmaml", {})
        common = (ours.keys() & systems.get("maml", {}).keys()) or ours.keys()
        rivals = {
            name: {one: met[one] for one in common}
            for name, met in systems.items()
            if name not in ORACLES and ours and common <= met.keys()
        }
        if rivals:
            ours = {one: ours[one] for one in common}
            rows.append(_row(place, ours, rivals))
    return "\n".join(rows)


def part_of(benchmark: str, together: dict[str, str]) -> str:
    """Returns under which name a benchmark shares a table, or ""."""
    for name, pattern in together.items():
        if re.fullmatch(pattern, benchmark):
            return name
    return ""


def whole(variant: str) -> str:
    """Returns what a variant is where all that is generated is used."""
    parts = (x for x in variant.split("+") if not x.startswith("strength"))
    return "+".join(parts) or "default"


def judged(variant: str) -> str:
    """Returns what of a variant says how it was judged: "tuned100", or ""."""
    ways = ("tuned", "bent", *transfer.VARIANTS.values())
    parts = (x for x in variant.split("+") if x.startswith(ways))
    return "+".join(x for x in parts if x != "default")


def _counts(x):
    plain = x["variant"] in ("default", judged(x["variant"]))
    return plain or (x["system"], x["variant"]) == ("prototype", "frozen")


def _row(place, ours, rivals):
    one = next(iter(ours.values()))[0]
    shown = results.unit(one)
    best = max(rivals, key=lambda n: shown.better * values(rivals[n]).mean())

    def cell(met):
        each = values(met)
        half = intervals.half_width(each)
        if len(met) == 1:
            half = intervals.interval(*met.values())
        written = shown.write(each.mean(), half)
        seeds = min(len(x) for x in met.values())
        return f"{written} ({seeds})"

    apart = values(ours) - values(rivals[best])
    difference = apart.mean(), intervals.half_width(apart)
    if len(ours) == 1:
        difference = intervals.difference(
            *ours.values(), *rivals[best].values()
        )
    cells = (
        place[0],
        ", ".join(filter(None, (results.setting(one), place[4]))),
        one["metric"] + ("," if shown.sign else "") + shown.sign,
        cell(ours),
        cell(rivals["maml"]) if "maml" in rivals else "",
        f"{best}: {cell(rivals[best])}",
        shown.write(*difference, "+"),
    )
    return f"| {' | '.join(cells)} |"


def values(met: dict[tuple, list[dict]]) -> np.ndarray:
    """Joins the episodes [n] of all benchmarks, averaged over seeds."""
    each = [
        np.mean([x["values"] for x in met[place]], axis=0)
        for place in sorted(met)
    ]
    return np.concatenate(each)
