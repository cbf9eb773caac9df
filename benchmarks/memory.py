"""How much memory a training step on volumes takes, by the size of a patch:

    python benchmarks/memory.py
    python benchmarks/memory.py --sides 96 --gradients mixed --set net.width=16

The network of configs/seg3d.py, one task of one support volume and one query,
for each way of taking the meta-gradient. Nothing is run: XLA says how much
temporary memory the compiled step needs, which no load disturbs. `pool` works
at full resolution, `stem` on blocks of 2x2x2 voxels.
"""

from __future__ import annotations

import functools
import os
import shlex
import sys
import time
from collections.abc import Sequence
from typing import Any

import speed
import worker

MODES = ("plain", "remat", "mixed")
# What code of the fastest kind would take minutes for changes no buffer.
FLAGS = (
    "--xla_backend_optimization_level=0 "
    "--xla_llvm_disable_expensive_passes=true"
)


def point(side: int, down: str, gradient: str, more: Sequence[str]) -> dict:
    """Compiles one training step and returns what it needs."""
    import jax

    from htmaml_jax import cli, systems
    from htmaml_jax.data import find
    from htmaml_jax.run import mesh as meshes
    from htmaml_jax.run import step
    from htmaml_jax.run.optimizer import make_optimizer

    fields, _ = cli.read_config(
        "configs/seg3d.py",
        [
            ("system", "maml"),
            ("data.side", str(side)),
            ("net.down", down),
            ("outer.gradient", gradient),
            ("inner.steps", "5"),
            *(tuple(item.split("=", 1)) for item in more),
        ],
    )
    learner = systems.build(fields, 1)
    optimizer = make_optimizer(fields.outer, fields.train.steps)
    made = step.make_train_step(
        learner, optimizer, lambda _, piece: piece, meshes.make_mesh(1, 1), 1
    )
    key, blank = jax.random.key(0), find.blank_episode(fields.data)
    start = functools.partial(step.init_state, learner, optimizer)
    state = jax.eval_shape(start, key, blank)
    one = jax.tree.map(lambda x: x[None], blank)
    clock = time.perf_counter()
    compiled = made.lower(state, key, (), one).compile()
    found = {
        "side": side,
        "down": down,
        "gradient": gradient,
        "temporary_mb": compiled.memory_analysis().temp_size_in_bytes / 2**20,
        "compile_s": time.perf_counter() - clock,
    }
    # Or the programs of all points stay in memory.
    jax.clear_caches()
    return found


def main(arguments: Sequence[str]) -> None:
    """Compiles, prints the table and writes memory.json."""
    parser = speed.make_parser(__doc__)
    add = parser.add_argument
    add("--sides", nargs="+", type=int, default=(32, 64, 96), help="in cells")
    add("--downs", nargs="+", default=("stem", "pool"))
    add("--gradients", nargs="+", default=MODES, choices=MODES)
    add("--set", nargs="*", default=[], help="other fields: net.width=16")
    args = parser.parse_args(arguments)
    worker.use_threads(args.threads)
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FLAGS}"
    import jax
    import speed_tables

    from htmaml_jax import cli
    from htmaml_jax.run import machine

    runs: list[dict[str, Any]] = []
    for side in args.sides:
        for down in args.downs:
            for gradient in args.gradients:
                runs.append(point(side, down, gradient, args.set))
                print(runs[-1], flush=True)
    result = {
        "workload": "memory",
        "config": "configs/seg3d.py",
        "set": args.set,
        "hardware": machine.hardware(),
        "backend": jax.default_backend(),
        "card": jax.devices()[0].device_kind,
        "versions": cli.versions(),
        "commit": cli.commit(),
        "command": shlex.join(["python", "benchmarks/memory.py", *arguments]),
        "runs": runs,
    }
    stem = "-".join(["memory", *(x.replace("=", "") for x in args.set)])
    speed.write(result, args.out, stem)
    print(f"\n{speed_tables.memory(result)}")


if __name__ == "__main__":
    main(sys.argv[1:])
