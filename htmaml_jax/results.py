"""Results: one small JSON each, and what may be said of several."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.special import stdtrit

from htmaml_jax import config as configs
from htmaml_jax import files
from htmaml_jax.defaults import FIELDS
from htmaml_jax.errors import UserError

# Only results that agree in these met the same episodes.
SAME = ("episodes_id", "split", "way", "shot", "query", "episodes")


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


def sentence(result: dict[str, Any]) -> str:
    """Says a result in one line."""
    kind = "inductive" if result["inductive"] else "TRANSDUCTIVE"
    shown = unit(result)
    return (
        f"{result['system']} (seed {result['seed']}): {result['split']} "
        f"{result['metric']} {shown.write(result['mean'], result['ci95'])}"
        f"{shown.sign} (95 % CI, {result['episodes']} episodes, "
        f"{setting(result)}, {kind}) on "
        f"{result['data'].get('domain', result['data']['name'])}"
    )


class Unit(NamedTuple):
    """How a metric is written.

    Attributes:
      factor: what it is multiplied with: shares are shown in percent.
      places: behind the point.
      sign: behind the number.
      better: 1 if more of it is better, else -1.
      way: from how many classes or structures on "5-way" is told; 0: never.
    """

    factor: int
    places: int
    sign: str
    better: int
    way: int

    def write(self, mean: float, half: float | None, plus: str = "") -> str:
        """Writes a mean and half its interval; `plus` "+" for differences."""
        text = f"{self.factor * mean:{plus}.{self.places}f}"
        if half is None or not np.isfinite(half):
            return f"{text} ± ?"
        return f"{text} ± {self.factor * half:.{self.places}f}"


UNITS = {
    "accuracy": Unit(100, 2, " %", 1, 1),
    "macro_f1": Unit(100, 2, " %", 1, 1),
    "mse": Unit(1, 4, "", -1, 0),
    "dice": Unit(100, 2, " %", 1, 2),
}


def unit(result: dict[str, Any]) -> Unit:
    """Returns how a result's metric is written."""
    return UNITS[result["metric"]]


def setting(result: dict[str, Any]) -> str:
    """Returns "5-way 1-shot"; without classes there is no way."""
    told = 0 < unit(result).way <= result["way"]
    way = f"{result['way']}-way " if told else ""
    return f"{way}{result['shot']}-shot"


def group(
    found: Sequence[dict[str, Any]], runs: Sequence[pathlib.Path]
) -> dict[str, list[dict[str, Any]]]:
    """Groups results by what was trained, with all its seeds.

    Runs count as seeds of one system if their configs differ in the seed
    alone; else, or if a seed comes twice, the workdir becomes their name.

    Returns:
      name -> results, in the order of their first.
    """
    same: dict[str, list[int]] = {}
    for i, result in enumerate(found):
        trained = configs.identity(result["config"], ("run.seed",))
        same.setdefault(json.dumps([label(result), trained]), []).append(i)
    names = [label(found[members[0]]) for members in same.values()]
    groups: dict[str, list[dict[str, Any]]] = {}
    for name, members in zip(names, same.values(), strict=True):
        seeds = {found[i]["seed"] for i in members}
        alone = names.count(name) == 1 and len(seeds) == len(members)
        for i in members:
            key = name if alone else f"{name} in {runs[i]}"
            groups.setdefault(key, []).append(found[i])
    return groups


def compare(
    a: tuple[str, Sequence[dict[str, Any]]],
    b: tuple[str, Sequence[dict[str, Any]]],
) -> str:
    """Says the paired difference of two named groups of results."""
    (name_a, a), (name_b, b) = a, b
    if not same_episodes([*a, *b]):
        return f"{name_a} and {name_b} met different episodes."
    mean, half = difference(a, b)
    seeds = f"{len(a)} and {len(b)} training seeds"
    shown = unit(a[0])
    points = " points" if shown.sign else ""
    said = (
        f"{name_a} minus {name_b}: {shown.write(mean, half, '+')}{points} "
        f"(95 % CI, paired over identical episodes, {seeds})"
    )
    if _of_volumes([*a, *b]):
        said += f", of {len(by_volume(a))} volumes"
    return said


def _of_volumes(found):
    return all("surfaces" in x for x in found)


def by_volume(found: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Returns the Dice of each volume, over episodes, structures and seeds."""
    each: dict[str, list[float]] = {}
    for result in found:
        for of in result["surfaces"]["by_structure"].values():
            for name, volume in of["volumes"].items():
                each.setdefault(name, []).append(volume["dice"])
    return {name: float(np.mean(x)) for name, x in each.items()}


def interval(found: Sequence[dict[str, Any]]) -> float:
    """Returns half the 95 % interval of the mean of one system's results.

    Each episode is first averaged over training seeds. Several episodes ask
    for one volume, so that of volumes it is they that count.
    """
    if _of_volumes(found):
        return half_width(np.array(list(by_volume(found).values())))
    return half_width(np.mean([x["values"] for x in found], axis=0))


def same_episodes(found: Sequence[dict[str, Any]]) -> bool:
    """Tells whether results were measured on identical episodes."""
    return len({tuple(x[key] for key in SAME) for x in found}) == 1


def difference(
    a: Sequence[dict[str, Any]], b: Sequence[dict[str, Any]]
) -> tuple[float, float]:
    """Returns mean and half 95 % interval of the paired difference a - b.

    See `interval`.
    """
    means = [np.mean([x["values"] for x in side], axis=0) for side in (a, b)]
    values = means[0] - means[1]
    mean = float(values.mean())
    if _of_volumes([*a, *b]):
        one, two = by_volume(a), by_volume(b)
        values = np.array([one[name] - two[name] for name in one])
    return mean, half_width(values)


def label(result: dict[str, Any]) -> str:
    """Returns system, variant and norm mode as tables name them."""
    variant = result["variant"]
    name = result["system"] + ("" if variant == "default" else f"+{variant}")
    return name if result["inductive"] else f"{name} (transductive)"


def read_all(folder: pathlib.Path) -> list[dict[str, Any]]:
    """Reads every result below a folder, in order of file names.

    What lies in `speed` are times, of another form.
    """
    paths = sorted(folder.glob("*/*.json"))
    return [files.read_json(p) for p in paths if p.parent.name != "speed"]


def file_name(result: dict[str, Any]) -> str:
    """Returns benchmark/system[+variant]-WwSs-sSEED[-transductive].json."""
    variant = result["variant"]
    variant = "" if variant == "default" else f"+{variant}"
    tail = "" if result["inductive"] else "-transductive"
    return (
        f"{result['benchmark']}/{result['system']}{variant}-{result['way']}w"
        f"{result['shot']}s-s{result['seed']}{tail}.json"
    )


def write_all(
    found: Sequence[dict[str, Any]], folder: pathlib.Path
) -> list[pathlib.Path]:
    """Writes results under their own names, all or none.

    Raises:
      UserError: two of them, or one and an older one, share a name although
        they were trained on or judged by other things.
    """
    paths = [folder / file_name(result) for result in found]
    for i, (path, result) in enumerate(zip(paths, found, strict=True)):
        if path in paths[:i]:
            raise UserError(
                f"two of these runs would write {path}; evaluate them one by "
                "one and name each with --variant."
            )
        if path.is_file() and _origin(files.read_json(path)) != _origin(result):
            raise UserError(
                f"{path} holds the result of another config, other data or "
                "another checkpoint series; name this one with --variant, or "
                "remove that file first."
            )
    for path, result in zip(paths, found, strict=True):
        files.write_whole(path, json.dumps(result) + "\n")
    return paths


def _origin(result):
    """Returns what a newer result must share with the one it replaces."""
    trained = json.dumps(configs.identity(result["config"]))
    # How many tasks there were may change, what they were may not.
    judged = {**FIELDS["eval"], **result["config"]["eval"]}
    judged = sorted((k, v) for k, v in judged.items() if k != "episodes")
    series = result["train"]["checkpoint"]["series"]
    return trained, judged, result["data"]["fingerprint"], series
