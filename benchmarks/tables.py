"""Writes the tables of README.md and results/README.md from results/."""

from __future__ import annotations

import itertools
import pathlib
import re

import numpy as np
import speed_tables
import summary

from htmaml_jax import files, results

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Benchmarks that share a table: the column, and the fold if there are any, in
# their names.
TOGETHER = {
    "intents": r"intent-(.+)-fold(\d)",
    "hate": r"(hate(?:check)?-\w+)()",
}
START, END = "<!-- {}: made by benchmarks/tables.py -->", "<!-- end -->"


def table(found: list[dict]) -> str:
    """Returns Markdown: a table per benchmark, a row per system.

    Intervals are those of `results.interval`. The difference is paired with
    `htmaml` of the same variant, or else of what of it says how it was judged
    (`tuned100`); where there is none, and for its own ablations, with plain
    `htmaml`. Mixtures get a column per domain.
    """

    def setting(x):
        return (x["way"], x["shot"], x["inductive"])

    def row(x):
        return (results.label(x), x["episodes_id"], x["episodes"])

    found = sorted(
        found, key=lambda x: (x["benchmark"], *setting(x), *row(x), x["seed"])
    )
    tables = []
    for name, of_one in itertools.groupby(found, lambda x: x["benchmark"]):
        of_one = list(of_one)
        shown = results.unit(of_one[0])
        what = of_one[0]["metric"] + ("," if shown.sign else "") + shown.sign
        domains = list(of_one[0].get("by_domain", ()))
        heads = [
            *("setting", "system", "seeds", what, *domains, "per seed"),
            *("htmaml minus it", "minutes", "parameters"),
        ]
        lines = [f"**{name}**", "", _row(heads), _row(["---"] * len(heads))]
        said: list[str] = []
        for _, group in itertools.groupby(of_one, setting):
            rows = [list(g) for _, g in itertools.groupby(group, row)]
            ours = {
                r[0]["variant"]: r for r in rows if r[0]["system"] == "htmaml"
            }
            for mine in rows:
                plain = ours.get("default")
                variant = mine[0]["variant"]
                base = ours.get(variant) or ours.get(
                    summary.judged(variant), plain
                )
                ablation = mine[0]["system"] == "htmaml"
                if base is mine and ablation:
                    base = plain
                lines.append(_line(mine, base, domains))
            said += _closest(rows) + _recovered(rows)
        lines += said
        tables.append("\n".join(lines))
    return "\n\n".join(tables)


def wide_table(found: list[dict], pattern: str) -> str:
    """Returns Markdown: one table for several benchmarks, a column each.

    A cell is the mean over folds and seeds; the difference is paired over
    the episodes of all benchmarks that a row and the `htmaml` of the same
    variant, or the plain one, have in common. Where some systems have met
    more folds than others do, rows of all of them with the folds of the
    latter come first.

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
    lines = [_row(heads), _row(["---"] * len(heads))]
    for key, folds in _groups(rows):
        one = next(iter(rows[key].values()))[0]
        own = results.label(one | {"system": "htmaml"})
        plain = rows.get((*key[:2], "htmaml"), {})
        ours = rows.get((*key[:2], own), plain)
        mine, theirs = (
            {place: x for place, x in one.items() if place[1] in folds}
            for one in (rows[key], ours)
        )
        told = [", ".join(sorted(filter(None, folds)))] if folded else []
        apart = "" if ours is rows[key] else _apart(theirs, mine)
        lines.append(_wide_row(key[2], mine, sets, told, apart))
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
    each = [
        np.mean([x["values"] for x in ours[place]], axis=0)
        - np.mean([x["values"] for x in places[place]], axis=0)
        for place in places
        if place in ours
    ]
    if not each:
        return ""
    values = np.concatenate(each)
    shown = results.unit(next(iter(places.values()))[0])
    return shown.write(values.mean(), results.half_width(values), "+")


def _wide_row(label, places, sets, told, apart):
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
        f"{_parameters(every[0]['train']):,}",
    )
    return _row(cells)


def _closest(rows):
    """Sets htmaml beside its best rival of at least as many seeds."""
    plain = {r[0]["system"]: r for r in rows if r[0]["variant"] == "default"}
    ours = plain.pop("htmaml", None)
    if not ours:
        return []
    rivals = [
        r
        for name, r in plain.items()
        if name not in summary.ORACLES
        and len(r) >= len(ours)
        and results.same_episodes([*r, *ours])
    ]
    if not rivals:
        return []
    better = results.unit(ours[0]).better
    best = max(rivals, key=lambda r: better * np.mean([x["mean"] for x in r]))
    said = results.compare(("htmaml", ours), (best[0]["system"], best))
    return ["", f"{results.setting(ours[0])}: {said}."]


def _recovered(rows):
    """Says what joint training costs MAML, and how much of it htmaml saves.

    The cost is what one MAML per domain, told the domain, has over one MAML
    for all.
    """
    plain = {r[0]["system"]: r for r in rows if r[0]["variant"] == "default"}
    wanted = ("multi-maml", "maml", "htmaml")
    if not all(name in plain for name in wanted):
        return []
    apart, joint, ours = (plain[name] for name in wanted)
    if not results.same_episodes([*apart, *joint, *ours]):
        return []
    one = ours[0]
    shown, setting = results.unit(one), results.setting(one)
    cost, half = results.difference(apart, joint)
    points = " points" if shown.sign else ""
    lost = shown.write(shown.better * cost, half, "+")
    said = f"{setting}: joint training costs MAML {lost}{points}"
    if shown.better * cost <= half:
        return ["", f"{said}, nothing that could be recovered."]
    share = results.difference(ours, joint)[0] / cost
    return ["", f"{said}; htmaml recovers {share:.0%} of it."]


def _row(cells):
    return f"| {' | '.join(cells)} |"


def _parameters(train):
    """Leaves out what tells classes apart in joint training alone."""
    sizes = train["parameters"]
    return sum(sizes.values()) - sizes.get("joint", 0)


def _line(mine, base, domains):
    one = mine[0]
    shown = results.unit(one)
    apart = ""
    if base and mine is not base and results.same_episodes([*mine, *base]):
        mean, half = results.difference(base, mine)
        apart = shown.write(mean, half, "+")
    train = [x["train"] for x in mine]
    cells = (
        f"{results.setting(one)}, "
        + ("inductive" if one["inductive"] else "transductive"),
        results.label(one),
        ", ".join(str(x["seed"]) for x in mine),
        shown.write(
            np.mean([x["values"] for x in mine]), results.interval(mine)
        ),
        *(
            f"{shown.factor * np.mean(means):.{shown.places - 1}f}"
            for means in (
                [x["by_domain"][domain]["mean"] for x in mine]
                for domain in domains
            )
        ),
        ", ".join(
            f"{shown.factor * x['mean']:.{shown.places - 1}f}" for x in mine
        ),
        apart,
        f"{np.mean([t['minutes'] for t in train]):.0f}",
        f"{_parameters(train[0]):,}",
    )
    return _row(cells)


def fill(page: str, folder: pathlib.Path) -> str:
    """Returns a page with its tables made anew from a results folder."""
    speed = sorted((folder / "speed").glob("W?.json"))
    found = results.read_all(folder)
    parts: dict[str, list[dict]] = {"results": [], **{x: [] for x in TOGETHER}}
    for x in found:
        name = summary.part_of(x["benchmark"], TOGETHER)
        parts[name or "results"].append(x)
    tables = {
        "summary": summary.table(found, TOGETHER),
        "results": table(parts["results"]),
        **{n: wide_table(parts[n], TOGETHER[n]) for n in TOGETHER if parts[n]},
        "speed": speed_tables.workloads([files.read_json(x) for x in speed]),
    }
    for name in ("cost", "growth", "memory"):
        stored = {"cost": "cost-asc"}.get(name, name)
        measured = files.read_json(folder / f"speed/{stored}.json")
        tables[name] = getattr(speed_tables, name)(measured)
    for name, text in tables.items():
        start = START.format(name)
        if start in page:
            head, rest = page.split(start)
            _, tail = rest.split(END, 1)
            page = f"{head}{start}\n{text}\n{END}{tail}"
    return page


if __name__ == "__main__":
    for path in (ROOT / "README.md", ROOT / "results/README.md"):
        path.write_text(fill(path.read_text(), ROOT / "results"))
