"""Seconds per meta-iteration, ours beside PyTorch's:

    python benchmarks/speed.py W1 W2 W3 W4

Each (library, workload) runs in a process of its own, in turn A B C A B C, so
that a drift of the machine meets all alike. All start from the same weights
and episodes; where losses or meta-gradients of the first meta-iteration
differ, no time of that workload is reported. Times hold the whole outer step
with Adam and leave compilation out. Gaps under 1.3 are ties on most machines.

A library may carry settings: `htmaml_jax:gradient=mixed:chunk=4`,
`torch_func:chunk=8`, `autograd:channels_last=1`. Peers that do not import are
listed as missing; `peers.py` says how to get them.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import pathlib
import re
import shlex
import statistics
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import cases
import numpy as np
from worker import JAX, TORCH, work

# Relative differences between libraries that rounding can explain.
LOSS, GRADIENT = 1e-3, 2e-2


def defaults(workload: str) -> list[str]:
    """Lists the libraries of a workload's table."""
    return [*(JAX if workload == "W1" else JAX[:1]), *TORCH]


def parse_library(spec: str) -> tuple[str, dict[str, Any]]:
    """Splits `library:key=value:...`."""
    name, *pairs = spec.split(":")
    if name not in (*JAX, *TORCH):
        known = ", ".join((*JAX, *TORCH))
        raise SystemExit(f"error: library {name!r} is not one of {known}.")
    settings = dict(pair.split("=", 1) for pair in pairs)
    return name, {k: _number(v) for k, v in settings.items()}


def _number(text):
    return int(text) if re.fullmatch(r"-?\d+", text) else text


def resize(case: cases.Case, changes: Sequence[str]) -> cases.Case:
    """Applies `field=value` changes; the name then tells them."""
    for change in changes:
        field, _, value = change.partition("=")
        kind = type(getattr(case, field))
        new = map(int, value.split("x")) if kind is tuple else value
        name = f"{case.name}-{change.replace('=', '')}"
        case = dataclasses.replace(case, name=name, **{field: kind(new)})
    return case


def warn_of_load() -> float:
    """Returns the load of the machine, and says if it spoils times."""
    load = os.getloadavg()[0]
    if load > 0.5:
        print(
            f"The machine is busy (load {load:.1f}): two threads that share a "
            "core with others wait for each other, PyTorch's most of all. "
            "Times are worth nothing unless it is idle.",
            flush=True,
        )
    return load


def run_worker(job: dict[str, Any]) -> dict[str, Any]:
    """Does a job in a new process, whose last line is the answer."""
    environment = dict(os.environ)
    if job["threads"]:
        environment["OMP_NUM_THREADS"] = str(job["threads"])
    done = subprocess.run(
        [sys.executable, __file__, "--worker", json.dumps(job)],
        capture_output=True,
        text=True,
        env=environment,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        return {"missing": f"failed: {lines[-1]}"}
    return json.loads(done.stdout.splitlines()[-1])


def disagreement(found: dict[str, dict[str, Any]]) -> str:
    """Says which library computed something else, or returns "".

    Args:
      found: library -> {loss, sketch} of the first meta-iteration.
    """
    losses = {name: facts["loss"] for name, facts in found.items()}
    middle = statistics.median(losses.values())
    for name, loss in losses.items():
        # Written so that NaN does not pass.
        if not abs(loss - middle) <= LOSS * abs(middle):
            return f"{name} has loss {loss:.6g}, the median is {middle:.6g}"
    sketches = {n: np.array(facts["sketch"]) for n, facts in found.items()}
    common = np.median(list(sketches.values()), axis=0)
    for name, sketch in sketches.items():
        apart = np.linalg.norm(sketch - common) / np.linalg.norm(common)
        if not apart <= GRADIENT:
            return f"the meta-gradient of {name} is off by {100 * apart:.2g} %"
    return ""


def compare(
    case: cases.Case, specs: Sequence[str], args: argparse.Namespace
) -> dict[str, Any]:
    """Runs all libraries on one workload, `args.rounds` times in turn.

    Raises:
      ValueError: they do not compute the same.
    """
    job = {
        "case": dataclasses.asdict(case),
        "dtype": args.dtype,
        "threads": args.threads,
        "iterations": args.iterations or (100 if case.name == "W2" else 10),
        "limit": args.limit,
    }
    runs: dict[str, dict[str, Any]] = {}
    missing: dict[str, str] = {}
    machines = []
    for turn in range(args.rounds):
        machines.append(_require(job | {"library": "machine", "settings": {}}))
        for spec in specs:
            if spec in missing:
                continue
            library, settings = parse_library(spec)
            if library == "htmaml_jax":
                settings = args.ours | settings
            facts = run_worker(job | {"library": library, "settings": settings})
            if "missing" in facts:
                missing[spec] = facts["missing"]
                runs.pop(spec, None)
                print(f"{case.name} {spec}: {missing[spec]}", flush=True)
                continue
            print(
                f"{case.name} round {turn + 1} {spec}: "
                f"{facts['seconds']:.4g} s, loss {facts['loss']:.7g}",
                flush=True,
            )
            _add(runs.setdefault(spec, {"library": spec}), facts)
        fault = disagreement(runs)
        if fault:
            raise ValueError(f"{case.name}: {fault}; no times reported.")
    peak = statistics.median(m.pop("peak_gflops") for m in machines)
    operations = cases.operations(case, args.ours["gradient"] != "first")
    for run in runs.values():
        run.pop("sketch")
        run["gflops"] = operations / statistics.median(run["seconds"]) / 1e9
        run["share_of_peak"] = run["gflops"] / peak
        machines[0]["versions"] |= run.pop("versions")
    return {
        "workload": case.name,
        "sizes": dataclasses.asdict(case),
        "dtype": args.dtype,
        "threads": args.threads,
        "load": args.load,
        "operations": operations,
        "peak_gflops": peak,
        **machines[0],
        "command": args.command,
        "runs": list(runs.values()),
        "missing": missing,
    }


def _require(job):
    facts = run_worker(job)
    if "missing" in facts:
        raise SystemExit(f"error: {facts['missing']}")
    return facts


def _add(run, facts):
    """Adds one round: times are listed, memory is the largest."""
    for key in ("seconds", "fastest", "compile_s"):
        if key in facts:
            run.setdefault(key, []).append(facts.pop(key))
    facts["peak_mb"] = max(facts["peak_mb"], run.get("peak_mb", 0))
    run |= facts


def table(result: dict[str, Any]) -> str:
    """Renders one workload as Markdown."""
    middle = {
        run["library"]: statistics.median(run["seconds"])
        for run in result["runs"]
    }
    peers = [s for n, s in middle.items() if n.split(":")[0] in TORCH]
    fastest = min(peers, default=float("nan"))
    lines = [
        f"{result['workload']}, {result['hardware']}, "
        f"{result['threads'] or 'all'} threads, matrix products "
        f"{result['peak_gflops']:.0f} GFLOP/s",
        "",
        "| library | s per meta-iteration | median | ÷ fastest PyTorch | "
        "peak MB | XLA temporary MB | compile s | share of peak |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for run in sorted(result["runs"], key=lambda r: middle[r["library"]]):
        seconds = middle[run["library"]]
        compiled = run.get("compile_s")
        temporary = run.get("temporary_mb")
        cells = (
            run["library"],
            " / ".join(f"{s:.3g}" for s in run["seconds"]),
            f"{seconds:.3g}",
            f"{seconds / fastest:.2f}" if peers else "",
            f"{run['peak_mb']:.0f}",
            "" if temporary is None else f"{temporary:.0f}",
            f"{statistics.median(compiled):.1f}" if compiled else "",
            f"{100 * run['share_of_peak']:.0f} %",
        )
        lines.append(f"| {' | '.join(cells)} |")
    for name, why in result["missing"].items():
        lines.append(f"| {name} | missing: {why} |{' |' * 6}")
    return "\n".join(lines)


def make_parser(text: str) -> argparse.ArgumentParser:
    """Returns a parser with what all speed benchmarks understand."""
    parser = argparse.ArgumentParser(
        description=text, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--threads", type=int, default=2, help="cores; 0 for all"
    )
    parser.add_argument("--out", type=pathlib.Path, default="results/speed")
    return parser


def write(result: dict[str, Any], folder: pathlib.Path, name: str) -> None:
    """Writes a result; an accelerator's in a folder of its card's name."""
    if result["backend"] != "cpu":
        card = re.sub(r"[^a-z0-9]+", "-", result["card"].lower()).strip("-")
        folder = folder / card
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(f"wrote {path}")


def main(arguments: Sequence[str]) -> None:
    """Compares, prints tables, writes results."""
    if arguments[:1] == ["--worker"]:
        print(json.dumps(work(json.loads(arguments[1]))))
        return
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("workloads", nargs="*", default=list(cases.CASES), metavar="W1 W2 ...")
    add("--rounds", type=int, default=3, help="turns of every library")
    add("--iterations", type=int, default=0, help="timed; 0: 10, on W2 100")
    add("--limit", type=float, default=60, help="of the timed ones, seconds")
    add("--libraries", default="", help="comma-separated; all by default")
    add("--dtype", default="float32", choices=("float32", "float64"))
    add("--gradient", default="mixed", help="ours: plain remat mixed first")
    add("--chunk", type=int, default=0, help="ours: tasks at a time; 0 auto")
    add("--devices", type=int, default=1, help="ours: devices")
    add("--set", nargs="*", default=[], help="change sizes: tasks=4 width=8")
    args = parser.parse_args(arguments)
    args.ours = {k: getattr(args, k) for k in ("gradient", "chunk", "devices")}
    args.command = shlex.join(["python", "benchmarks/speed.py", *arguments])
    args.load = warn_of_load()
    faults = []
    for name in args.workloads:
        if name not in cases.CASES:
            parser.error(f"{name} is not one of {', '.join(cases.CASES)}")
        specs = args.libraries.split(",") if args.libraries else defaults(name)
        case = resize(cases.CASES[name], args.set)
        try:
            result = compare(case, specs, args)
        except ValueError as fault:
            faults.append(str(fault))
            print(fault, flush=True)
            continue
        write(result, args.out, case.name)
        print(f"\n{table(result)}\n", flush=True)
    if faults:
        raise SystemExit("error: " + " ".join(faults))


if __name__ == "__main__":
    main(sys.argv[1:])
