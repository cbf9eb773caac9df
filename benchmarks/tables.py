"""Writes the tables of README.md from results/: python benchmarks/tables.py."""

from __future__ import annotations

import itertools
import pathlib

import numpy as np

from htmaml_jax import files, results

ROOT = pathlib.Path(__file__).resolve().parent.parent
START, END = "<!-- {}: made by benchmarks/tables.py -->", "<!-- end -->"


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


def speed_table(found: list[dict]) -> str:
    """Returns the table of speed workloads: ours beside the fastest peer."""
    lines = [
        "| workload | ours, s | fastest PyTorch, s | times as fast | memory, "
        "ours | memory, theirs | compiles in | share of peak |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for result in found:
        middle = {
            run["library"]: float(np.median(run["seconds"]))
            for run in result["runs"]
        }
        peers = {
            name: seconds
            for name, seconds in middle.items()
            if name.split(":")[0] not in ("htmaml_jax", "jax_lax_conv")
        }
        peer = min(peers, key=peers.get)
        runs = {run["library"]: run for run in result["runs"]}
        mine = runs["htmaml_jax"]
        cells = (
            result["workload"],
            f"{middle['htmaml_jax']:.3g}",
            f"{peers[peer]:.3g} ({peer})",
            f"{peers[peer] / middle['htmaml_jax']:.2f}",
            f"{mine['peak_mb']:.0f} MB",
            f"{runs[peer]['peak_mb']:.0f} MB",
            f"{np.median(mine['compile_s']):.0f} s",
            f"{100 * mine['share_of_peak']:.0f} %",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def fill(readme: str, folder: pathlib.Path) -> str:
    """Returns a README with its tables made anew from a results folder."""
    speed = sorted((folder / "speed").glob("W?.json"))
    tables = {
        "results": table(results.read_all(folder)),
        "speed": speed_table([files.read_json(path) for path in speed]),
    }
    for name, text in tables.items():
        start = START.format(name)
        head, rest = readme.split(start)
        _, tail = rest.split(END, 1)
        readme = f"{head}{start}\n{text}\n{END}{tail}"
    return readme


if __name__ == "__main__":
    path = ROOT / "README.md"
    path.write_text(fill(path.read_text(), ROOT / "results"))
