"""The tables of README.md that speak of time and memory; see tables.py."""

from __future__ import annotations

import numpy as np


def workloads(found: list[dict]) -> str:
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


def cost(result: dict) -> str:
    """Returns the table of benchmarks/cost.py: starting and running."""
    lines = [
        "| system | s per meta-iteration | ÷ first | parameters | tracing | "
        "compiling, first start | second start |",
        "|---|---|---|---|---|---|---|",
    ]
    base = np.median(result["runs"][0]["seconds"])
    for run in result["runs"]:
        seconds = np.median(run["seconds"])
        first, *later = run["compile_s"]
        cells = (
            run["system"],
            f"{seconds:.3g}",
            f"{seconds / base:.2f}",
            f"{sum(run['parameters'].values()):,}",
            f"{np.median(run['trace_s']):.1f} s",
            f"{first:.0f} s",
            f"{np.median(later):.1f} s",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def growth(result: dict) -> str:
    """Returns temporary memory and time by tasks and by inner steps."""
    middle, found = result["around"], {}
    for run in result["runs"]:
        found[run["gradient"], run["tasks"], run["steps"], run["width"]] = run
    tasks, steps = (sorted({key[i] for key in found}) for i in (1, 2))
    sizes = [(n, middle["steps"]) for n in tasks]
    sizes += [(middle["tasks"], n) for n in steps if n != middle["steps"]]
    lines = [
        "| tasks | inner steps | plain | mixed |",
        "|---|---|---|---|",
    ]
    for task, step in sizes:
        cells = [str(task), str(step)]
        for mode in ("plain", "mixed"):
            run = found[mode, task, step, middle["width"]]
            cells.append(
                f"{run['temporary_mb']:.0f} MB, {run['seconds']:.3g} s"
            )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def memory(result: dict) -> str:
    """Returns temporary memory by size of a patch and way of gradient."""
    found: dict[tuple, dict[str, str]] = {}
    for run in result["runs"]:
        size = found.setdefault((run["side"], run["down"]), {})
        size[run["gradient"]] = f"{run['temporary_mb'] / 1024:.2f} GB"
    modes = list(dict.fromkeys(run["gradient"] for run in result["runs"]))
    lines = [
        f"| patch | net.down | {' | '.join(modes)} |",
        "|---" * (len(modes) + 2) + "|",
    ]
    for (side, down), row in found.items():
        cells = [f"{side}³", down, *(row.get(mode, "") for mode in modes)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
