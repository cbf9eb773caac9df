"""Results: one small JSON each, and what may be said of several."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from htmaml_jax import config as configs
from htmaml_jax import files, intervals
from htmaml_jax.defaults import FIELDS
from htmaml_jax.errors import UserError

# Only results that agree in these met the same episodes.
SAME = ("episodes_id", "split", "way", "shot", "query", "episodes")


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
    alone, and they are as long; else, or if a seed comes twice, the workdir
    becomes their name.

    Returns:
      name -> results, in the order of their first.
    """
    same: dict[str, list[int]] = {}
    for i, result in enumerate(found):
        trained = configs.identity(result["config"], ("run.seed",))
        updates = result["train"]["meta_iterations"]
        same.setdefault(
            json.dumps([label(result), trained, updates]), []
        ).append(i)
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
    mean, half = intervals.difference(a, b)
    seeds = f"{len(a)} and {len(b)} training seeds"
    shown = unit(a[0])
    points = " points" if shown.sign else ""
    said = (
        f"{name_a} minus {name_b}: {shown.write(mean, half, '+')}{points} "
        f"(95 % CI, paired over identical episodes, {seeds})"
    )
    if intervals.are_of_volumes([*a, *b]):
        cases = {v for of in intervals.by_structure(a).values() for v in of}
        subjects = len({intervals.subject_of(a, case) for case in cases})
        said += f", of {len(cases)} volumes"
        said += f" of {subjects} subjects" if subjects < len(cases) else ""
    return said


def same_episodes(found: Sequence[dict[str, Any]]) -> bool:
    """Tells whether results were measured on identical episodes."""
    return len({tuple(x[key] for key in SAME) for x in found}) == 1


def label(result: dict[str, Any]) -> str:
    """Returns system, variant and norm mode as tables name them."""
    variant = result["variant"]
    name = result["system"] + ("" if variant == "default" else f"+{variant}")
    return name if result["inductive"] else f"{name} (transductive)"


def read_all(folder: pathlib.Path) -> list[dict[str, Any]]:
    """Reads every test result below a folder, in order of file names.

    What lies in `speed` are times, of another form.
    """
    paths = sorted(folder.glob("*/*.json"))
    found = [files.read_json(p) for p in paths if p.parent.name != "speed"]
    return [result for result in found if result["split"] == "test"]


def file_name(result: dict[str, Any]) -> str:
    """Returns benchmark/system[+variant]-WwSs-sSEED[-transductive].json.

    What is no test bears the name of its split, too.
    """
    variant = result["variant"]
    variant = "" if variant == "default" else f"+{variant}"
    tail = "" if result["inductive"] else "-transductive"
    tail += "" if result["split"] == "test" else f"-{result['split']}"
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
        if not path.is_file():
            continue
        old = files.read_json(path)
        if _origin(old) != _origin(result):
            raise UserError(
                f"{path} holds the result of another config, other data, "
                "another checkpoint series or number of updates; name this "
                "one with --variant, or remove that file first."
            )
        if old["episodes"] > result["episodes"]:
            raise UserError(
                f"{path} holds {old['episodes']} episodes, and this has "
                f"{result['episodes']}; remove that file first."
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
    about = result["train"]
    length = about["checkpoint"]["series"], about["meta_iterations"]
    return trained, judged, result["data"]["fingerprint"], length
