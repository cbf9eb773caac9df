"""Writes the tables of README.md from results/: python benchmarks/tables.py."""

from __future__ import annotations

import itertools
import pathlib
import sys

import numpy as np

from htmaml_jax import results

ROOT = pathlib.Path(__file__).resolve().parent.parent
START, END = "<!-- results: made by benchmarks/tables.py -->", "<!-- end -->"


def table(found: list[dict]) -> str:
    """Returns one Markdown table of all results, a row per system.

    The interval of a row is that of episodes averaged over training seeds;
    the difference is paired with `maml` of the same variant.
    """

    def setting(x):
        return (x["benchmark"], x["way"], x["shot"], x["inductive"])

    def row(x):
        return (results.label(x), x["episodes_id"], x["episodes"])

    lines = [
        "| benchmark | setting | system | seeds | accuracy % ± 95 % CI | "
        "per seed | minus maml | minutes | parameters |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    found = sorted(found, key=lambda x: (*setting(x), *row(x), x["seed"]))
    for place, group in itertools.groupby(found, setting):
        rows = [list(g) for _, g in itertools.groupby(group, row)]
        base = {r[0]["variant"]: r for r in rows if r[0]["system"] == "maml"}
        for mine in rows:
            lines.append(_line(place, mine, base.get(mine[0]["variant"])))
    return "\n".join(lines)


def _line(place, mine, base):
    benchmark, way, shot, inductive = place
    values = np.mean([x["values"] for x in mine], axis=0)
    apart = ""
    if base and mine is not base and results.same_episodes([*mine, *base]):
        mean, half = results.difference(mine, base)
        apart = f"{100 * mean:+.2f} ± {100 * half:.2f}"
    train = [x["train"] for x in mine]
    cells = (
        benchmark,
        f"{way}-way {shot}-shot, "
        + ("inductive" if inductive else "transductive"),
        results.label(mine[0]),
        ", ".join(str(x["seed"]) for x in mine),
        f"{100 * values.mean():.2f} ± {100 * results.half_width(values):.2f}",
        ", ".join(f"{100 * x['mean']:.1f}" for x in mine),
        apart,
        f"{np.mean([t['minutes'] for t in train]):.0f}",
        f"{sum(train[0]['parameters'].values()):,}",
    )
    return f"| {' | '.join(cells)} |"


def fill(readme: str, found: list[dict]) -> str:
    """Returns a README with its table made anew."""
    head, rest = readme.split(START)
    _, tail = rest.split(END)
    return f"{head}{START}\n{table(found)}\n{END}{tail}"


if __name__ == "__main__":
    path = ROOT / "README.md"
    new = fill(path.read_text(), results.read_all(ROOT / "results"))
    path.write_text(new)
    sys.stdout.write(new.split(START)[1].split(END)[0])
