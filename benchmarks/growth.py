"""How speed, memory and compile time grow with tasks, steps and width:

    python benchmarks/growth.py
    python benchmarks/growth.py --no-time

One size at a time changes, around W1, for each way of taking the
meta-gradient. `--no-time` compiles only: XLA says then how much temporary
memory a step needs, which no load of the machine disturbs.
"""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import statistics
import sys
from collections.abc import Sequence
from typing import Any

import cases
import speed
import worker

AXES = {
    "tasks": (1, 4, 8, 32, 256),
    "steps": (1, 2, 4, 8, 16, 32),
    "width": (16, 32, 64, 128),
}
MODES = ("plain", "remat", "mixed", "first")


def point(
    case: cases.Case, gradient: str, args: argparse.Namespace
) -> dict[str, Any]:
    """Measures one size in one mode."""
    import jax
    import workloads

    settings = {"gradient": gradient, "chunk": args.chunk}
    iterate, _, facts = workloads.prepare(case, "htmaml_jax", settings)
    row = {
        "gradient": gradient,
        **{axis: getattr(case, axis) for axis in AXES},
        "chunk": facts["settings"]["chunk"],
        "temporary_mb": facts.get("temporary_mb"),
        "compile_s": facts["compile_s"],
    }
    if args.time:
        iterate()
        each = worker.measure(iterate, args.iterations, args.limit)
        row["seconds"] = statistics.median(each)
        row["iterations"] = len(each)
    # Or the programs of all points stay in memory.
    jax.clear_caches()
    return row


def table(rows: Sequence[dict[str, Any]], axis: str, what: str) -> str:
    """Renders one quantity as Markdown, a row per mode."""
    values = sorted({row[axis] for row in rows})
    lines = [
        f"| {axis} | {' | '.join(map(str, values))} |",
        "|---" * (len(values) + 1) + "|",
    ]
    for mode in dict.fromkeys(row["gradient"] for row in rows):
        found = {r[axis]: r for r in rows if r["gradient"] == mode}
        cells = [_cell(found.get(v, {}), what) for v in values]
        lines.append(f"| {mode} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(row, what):
    if what == "rate":
        return f"{1 / row['seconds']:.3g}" if "seconds" in row else ""
    return "" if row.get(what) is None else f"{row[what]:.3g}"


def main(arguments: Sequence[str]) -> None:
    """Measures, prints tables and writes growth.json."""
    parser = speed.make_parser(__doc__)
    add = parser.add_argument
    for axis, values in AXES.items():
        # An empty list leaves the axis out.
        add(f"--{axis}", nargs="*", type=int, default=values)
    add("--gradients", nargs="+", default=MODES, choices=MODES)
    add("--no-time", dest="time", action="store_false", help="compile only")
    add("--iterations", type=int, default=5, help="timed ones")
    add("--limit", type=float, default=30, help="of the timed ones, seconds")
    add("--chunk", type=int, default=0, help="tasks at a time; 0 automatic")
    add("--set", nargs="*", default=[], help="change W1: tasks=4 shape=16x16x1")
    args = parser.parse_args(arguments)
    load = speed.warn_of_load()
    worker.use_threads(args.threads)
    worker.set_up_jax()
    import workloads

    middle = speed.resize(cases.CASES["W1"], args.set)
    known: dict[tuple, dict[str, Any]] = {}
    rows: dict[str, list] = {axis: [] for axis in AXES}
    for axis, found in rows.items():
        for gradient in args.gradients:
            for value in getattr(args, axis):
                case = dataclasses.replace(middle, **{axis: value})
                # The middle lies on several axes.
                if (case, gradient) not in known:
                    known[case, gradient] = point(case, gradient, args)
                row = known[case, gradient]
                found.append(row)
                print(axis, value, row, flush=True)
    result = {
        "workload": "growth",
        "around": dataclasses.asdict(middle),
        "threads": args.threads,
        "load": load,
        **workloads.describe_machine(),
        "command": shlex.join(["python", "benchmarks/growth.py", *arguments]),
        "runs": list(known.values()),
    }
    speed.write(result, args.out, "growth")
    titles = {
        "rate": "Meta-iterations per second",
        "temporary_mb": "XLA temporary memory, MB",
        "compile_s": "Compile time, seconds",
    }
    for what, title in titles.items():
        if what == "rate" and not args.time:
            continue
        for axis, found in rows.items():
            if found:
                print(f"\n{title}\n\n{table(found, axis, what)}")


if __name__ == "__main__":
    main(sys.argv[1:])
