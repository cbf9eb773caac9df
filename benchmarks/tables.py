"""Writes the tables of README.md and results/README.md from results/."""

from __future__ import annotations

import itertools
import pathlib

import numpy as np
import speed_tables
import summary
import wide_tables

from htmaml_jax import files, intervals, results

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

    Intervals are those of `intervals.interval`. The difference is paired with
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
        lines = [
            f"**{name}**",
            "",
            wide_tables.row(heads),
            wide_tables.row(["---"] * len(heads)),
        ]
        said: list[str] = []
        for _, group in itertools.groupby(of_one, setting):
            rows = [list(g) for _, g in itertools.groupby(group, row)]
            ours = {
                r[0]["variant"]: r for r in rows if r[0]["system"] == "htmaml"
            }
            for mine in rows:
                plain = ours.get("default")
                variant = summary.whole(mine[0]["variant"])
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
    cost, half = intervals.difference(apart, joint)
    points = " points" if shown.sign else ""
    lost = shown.write(shown.better * cost, half, "+")
    said = f"{setting}: joint training costs MAML {lost}{points}"
    if shown.better * cost <= half:
        return ["", f"{said}, nothing that could be recovered."]
    share = intervals.difference(ours, joint)[0] / cost
    return ["", f"{said}; htmaml recovers {share:.0%} of it."]


def _line(mine, base, domains):
    one = mine[0]
    shown = results.unit(one)
    apart = ""
    if base and mine is not base and results.same_episodes([*mine, *base]):
        mean, half = intervals.difference(base, mine)
        apart = shown.write(mean, half, "+")
    train = [x["train"] for x in mine]
    cells = (
        f"{results.setting(one)}, "
        + ("inductive" if one["inductive"] else "transductive"),
        results.label(one),
        ", ".join(str(x["seed"]) for x in mine),
        shown.write(
            np.mean([x["values"] for x in mine]), intervals.interval(mine)
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
        f"{wide_tables.parameters(train[0]):,}",
    )
    return wide_tables.row(cells)


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
        **{
            n: wide_tables.table(parts[n], TOGETHER[n])
            for n in TOGETHER
            if parts[n]
        },
        "scope": wide_tables.scope(found),
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
