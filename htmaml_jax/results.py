"""Results: one small JSON each, and what may be said of several."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

# Only results that agree in these met the same episodes.
SAME = ("episodes_id", "split", "way", "shot", "query", "episodes")


def half_width(values: np.ndarray) -> float:
    """Returns half the 95 % confidence interval of a mean over episodes."""
    if len(values) < 2:
        return float("nan")
    return float(1.96 * np.std(values, ddof=1) / np.sqrt(len(values)))


def sentence(result: dict[str, Any]) -> str:
    """Says a result in one line."""
    kind = "inductive" if result["inductive"] else "TRANSDUCTIVE"
    return (
        f"{result['system']} (seed {result['seed']}): {result['split']} "
        f"accuracy {100 * result['mean']:.2f} ± {100 * result['ci95']:.2f} % "
        f"(95 % CI, {result['episodes']} episodes, {result['way']}-way "
        f"{result['shot']}-shot, {kind}) on {result['data']['name']}"
    )


def compare(a: Sequence[dict[str, Any]], b: Sequence[dict[str, Any]]) -> str:
    """Says the paired difference of two systems on identical episodes."""
    name_a, name_b = label(a[0]), label(b[0])
    if not same_episodes([*a, *b]):
        return f"{name_a} and {name_b} met different episodes."
    mean, half = difference(a, b)
    seeds = f"{len(a)} and {len(b)} training seeds"
    return (
        f"{name_a} minus {name_b}: {100 * mean:+.2f} ± {100 * half:.2f} "
        f"points (95 % CI, paired over identical episodes, {seeds})"
    )


def same_episodes(found: Sequence[dict[str, Any]]) -> bool:
    """Tells whether results were measured on identical episodes."""
    return len({tuple(x[key] for key in SAME) for x in found}) == 1


def difference(
    a: Sequence[dict[str, Any]], b: Sequence[dict[str, Any]]
) -> tuple[float, float]:
    """Returns mean and half 95 % interval of the paired difference a - b.

    Each episode is first averaged over the training seeds of a system.
    """
    means = [np.mean([x["values"] for x in side], axis=0) for side in (a, b)]
    values = means[0] - means[1]
    return float(values.mean()), half_width(values)


def label(result: dict[str, Any]) -> str:
    """Returns system, variant and norm mode as tables name them."""
    variant = result["variant"]
    name = result["system"] + ("" if variant == "default" else f"+{variant}")
    return name if result["inductive"] else f"{name} (transductive)"


def read_all(folder: pathlib.Path) -> list[dict[str, Any]]:
    """Reads every result below a folder, in order of file names."""
    return [json.loads(p.read_text()) for p in sorted(folder.glob("*/*.json"))]


def file_name(result: dict[str, Any]) -> str:
    """Returns benchmark/system[+variant]-WwSs-sSEED[-transductive].json."""
    variant = result["variant"]
    variant = "" if variant == "default" else f"+{variant}"
    tail = "" if result["inductive"] else "-transductive"
    return (
        f"{result['benchmark']}/{result['system']}{variant}-{result['way']}w"
        f"{result['shot']}s-s{result['seed']}{tail}.json"
    )


def write(result: dict[str, Any], folder: pathlib.Path) -> pathlib.Path:
    """Writes a result under its own name, whole or not at all."""
    path = folder / file_name(result)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".tmp")
    beside.write_text(json.dumps(result) + "\n")
    os.replace(beside, path)
    return path
