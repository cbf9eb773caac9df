"""What a system costs beside another, at the settings of a config:

    python benchmarks/cost.py configs/asc.py maml htmaml

Each system runs in processes of its own, in turn A B A B: first with an empty
compilation cache, then again with the cache that it filled. Printed, and
written to results/speed/cost-CONFIG.json: seconds per meta-iteration of each,
and how long starting takes, tracing and compiling apart. Episodes are noise of
the right shapes, so no data are needed. What is timed are updates by tasks,
without the joint training that some configs begin with.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import speed
import worker


def start(config: str, system: str, args: argparse.Namespace) -> dict[str, Any]:
    """Compiles one training step, times it, and returns what was measured."""
    worker.use_threads(args.threads)
    import jax
    import jax.numpy as jnp

    from htmaml_jax import cli, systems
    from htmaml_jax.data import find
    from htmaml_jax.run import machine, step
    from htmaml_jax.run import mesh as meshes
    from htmaml_jax.run.optimizer import make_optimizer

    machine.use_cache()
    fields, _ = cli.read_config(
        config, [("system", system), ("outer.joint_until", "0.0")]
    )
    way = fields.data.way
    learner = systems.build(fields, way, known=way)
    tasks = fields.train.tasks
    mesh = meshes.make_mesh(tasks, 1)
    optimizer = make_optimizer(fields.outer, fields.train.steps)
    blank = find.blank_episode(fields.data)
    key = jax.random.key(0)
    state = step.init_state(learner, optimizer, key, blank)

    def batch(x):
        whole = jnp.broadcast_to(x, (tasks, *jnp.shape(x)))
        if not jnp.issubdtype(whole.dtype, jnp.floating) or whole.ndim < 3:
            return whole
        return jax.random.normal(key, whole.shape, whole.dtype)

    episodes = jax.tree.map(batch, blank)
    episodes = episodes._replace(index=jnp.arange(tasks, dtype=jnp.int32))
    chunk = machine.choose_chunk(tasks, fields.run.chunk, 1)
    made = step.make_train_step(
        learner, optimizer, lambda _, piece: piece, mesh, chunk
    )
    rest = (key, (), meshes.shard(mesh, episodes))
    clock = time.perf_counter()
    lowered = made.lower(state, *rest)
    trace = time.perf_counter() - clock
    clock = time.perf_counter()
    compiled = lowered.compile()
    compile_s = time.perf_counter() - clock

    def iterate():
        nonlocal state
        state, _ = compiled(state, *rest)
        jax.block_until_ready(state)

    iterate()
    each = worker.measure(iterate, args.iterations, args.limit)
    return {
        "seconds": statistics.median(each),
        "trace_s": trace,
        "compile_s": compile_s,
        "parameters": systems.sizes(state.meta),
        "temporary_mb": compiled.memory_analysis().temp_size_in_bytes / 2**20,
        "hardware": machine.hardware(),
        "backend": jax.default_backend(),
        "card": jax.devices()[0].device_kind,
        "versions": cli.versions(),
        "commit": cli.commit(),
    }


def _run(system, cache, arguments):
    environment = {**os.environ, "HTMAML_CACHE": cache}
    command = [sys.executable, __file__, *arguments, "--worker", system]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment
    )
    if done.returncode:
        raise SystemExit(f"error: {system}: {done.stderr.strip()[-500:]}")
    return json.loads(done.stdout.splitlines()[-1])


def table(runs: dict[str, list[dict[str, Any]]]) -> str:
    """Renders all systems as Markdown; the first is what others are set to."""
    middle = {
        name: statistics.median(x["seconds"] for x in found)
        for name, found in runs.items()
    }
    base = next(iter(middle.values()))
    lines = [
        "| system | s per meta-iteration | ÷ first | parameters | temporary MB "
        "| tracing s | compiling s, empty cache | with cache |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, found in runs.items():
        cells = (
            name,
            f"{middle[name]:.3g}",
            f"{middle[name] / base:.2f}",
            f"{sum(found[0]['parameters'].values()):,}",
            f"{found[0]['temporary_mb']:.0f}",
            f"{statistics.median(x['trace_s'] for x in found):.1f}",
            f"{found[0]['compile_s']:.1f}",
            f"{statistics.median(x['compile_s'] for x in found[1:]):.2f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> None:
    """Measures, prints a table and writes it."""
    parser = speed.make_parser(__doc__)
    add = parser.add_argument
    add("config", help="e.g. configs/asc.py or configs/asc.py:shot=5")
    add("systems", nargs="+", help="the first is what others are set beside")
    add("--rounds", type=int, default=3, help="processes of every system")
    add("--iterations", type=int, default=10, help="timed ones")
    add("--limit", type=float, default=60, help="of the timed ones, seconds")
    add("--worker", default="", help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.worker:
        print(json.dumps(start(args.config, args.worker, args)))
        return
    if args.rounds < 2:
        parser.error("--rounds must be 2 or more: the first fills the cache")
    load = speed.warn_of_load()
    runs: dict[str, list] = {name: [] for name in args.systems}
    with tempfile.TemporaryDirectory() as cache:
        for _ in range(args.rounds):
            for name, found in runs.items():
                folder = str(pathlib.Path(cache) / name)
                found.append(_run(name, folder, arguments))
                print(name, found[-1]["seconds"], flush=True)
    kept = {"seconds", "trace_s", "compile_s", "parameters", "temporary_mb"}
    last = next(iter(runs.values()))[-1]
    result = {
        "workload": "cost",
        "config": args.config,
        "threads": args.threads,
        "load": load,
        **{k: v for k, v in last.items() if k not in kept},
        "command": shlex.join(["python", "benchmarks/cost.py", *arguments]),
        "runs": [
            {
                "library": "htmaml_jax",
                "system": name,
                "seconds": [x["seconds"] for x in found],
                "trace_s": [x["trace_s"] for x in found],
                "compile_s": [x["compile_s"] for x in found],
                "temporary_mb": found[0]["temporary_mb"],
                "parameters": found[0]["parameters"],
            }
            for name, found in runs.items()
        ],
    }
    stem = pathlib.Path(args.config.partition(":")[0]).stem
    speed.write(result, args.out, f"cost-{stem}")
    print(f"\n{table(runs)}")


if __name__ == "__main__":
    main(sys.argv[1:])
