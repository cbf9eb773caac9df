"""Meta-trains a few-shot system: python -m htmaml_jax.train --config FILE."""

from __future__ import annotations

import argparse
import contextlib
import functools
import itertools
import json
import math
import time
from collections.abc import Sequence

from etils import epath

from htmaml_jax import cli, files
from htmaml_jax.errors import UserError


def main(argv: Sequence[str]) -> None:
    """Trains, resumes or only re-evaluates what a workdir holds."""
    parser = argparse.ArgumentParser(
        prog="python -m htmaml_jax.train",
        description="Meta-train a few-shot system.",
        epilog="Any field: --config.GROUP.FIELD=VALUE, e.g. "
        "--config.train.steps=500; fields are listed in defaults.py.",
    )
    parser.add_argument(
        "--config",
        required=True,
        metavar="FILE[:name=value,...]",
        help="e.g. configs/asc.py or configs/asc.py:system=maml,shot=5",
    )
    parser.add_argument(
        "--workdir",
        type=epath.Path,
        help="where everything is written; an existing one is resumed "
        "(default: runs/CONFIG-SYSTEM-sSEED); may be gs://BUCKET/FOLDER",
    )
    parser.add_argument(
        "--distributed",
        default="off",
        metavar="HOW",
        help="how processes join: auto (the cluster knows), off (default), "
        "or HOST:PORT,COUNT,INDEX",
    )
    flags, overrides = cli.parse(parser, argv)
    config, name = cli.read_config(flags.config, overrides)
    name = f"{name}-{config.system}-s{config.run.seed}"
    workdir = flags.workdir or epath.Path("runs") / name
    from htmaml_jax.run import hosts

    hosts.join(flags.distributed)
    if config.joint.parts:
        from htmaml_jax import multimodal

        named = cli.named(flags.config, overrides)
        multimodal.train(config, workdir, named)
    else:
        train(config, workdir)


def train(config, workdir: epath.Path) -> dict:
    """Trains the system of a config in a workdir, then evaluates the best.

    Returns:
      The result that is also written to workdir/result.json.
    """
    # Imported late so that --help and typing errors answer at once.
    import jax
    import numpy as np

    from htmaml_jax import domain, evaluate, results, starts, systems
    from htmaml_jax.data import find
    from htmaml_jax.run import (
        checkpoints,
        hosts,
        judging,
        logs,
        machine,
        signals,
        step,
    )
    from htmaml_jax.run import mesh as meshes
    from htmaml_jax.run import workdir as workdirs
    from htmaml_jax.run.optimizer import make_optimizer

    # ------------------------------------------------------------- workdir
    machine.use_cache()
    record = workdirs.read(workdir)
    if record:
        workdirs.refuse_change(workdir, record, config)
    saved = checkpoints.Checkpoints(workdir)
    begun = saved.step("latest") or 0
    resumed = saved.info("latest") if begun else None
    steps, tasks = config.train.steps, config.train.tasks
    if begun > steps:
        raise UserError(
            f"{workdir} is at step {begun}, beyond "
            f"train.steps={steps}; raise it."
        )

    # ---------------------------------------------------------------- data
    old = record and record["data"]
    table, facts, source, held = domain.open_data(config, workdir, old)

    # --------------------------------------------------------------- model
    mesh = meshes.make_mesh(tasks, config.run.devices)
    known = len(table.splits.get("train", ()))
    learner = evaluate.build(config, config.data.way, known=known)
    metric, better = learner.problem.metric, learner.problem.better
    optimizer = make_optimizer(config.outer, steps)
    key = meshes.replicate(mesh, jax.random.key(config.run.seed))
    shared = meshes.replicate(mesh, source.shared)
    blank = find.blank_episode(config.data)
    state = step.init_state(learner, optimizer, key, blank)
    if not begun:
        meta = starts.install(state.meta, config)
        state = state._replace(meta=meta)
    state = meshes.replicate(mesh, state)
    sizes = systems.sizes(state.meta)
    hosts.say(f"system: {config.system}, parameters: {sizes}")
    hosts.say(systems.describe(learner, state.meta))
    hosts.say(f"devices: {mesh.size} x {jax.devices()[0].device_kind}")

    # -------------------------------------------------------------- resume
    best = {"step": 0, metric: -better * math.inf}
    seconds = 0.0
    if resumed:
        state = saved.state("latest", state)
        best, seconds = resumed["best"], resumed["seconds"]
        hosts.say(f"resumed: {workdir} at step {begun} of {steps}")

    # --------------------------------------------------------------- steps
    place = jax.process_index(), jax.process_count()
    drawn = source.pieces(begun * tasks, tasks, *place)
    piece = meshes.shard(mesh, next(drawn))
    rest = (meshes.shard(mesh, x) for x in drawn)
    pieces = logs.Timed(itertools.chain([piece], rest))
    example = (state, key, shared, piece)

    @functools.cache
    def compiled(chunk: int):
        made = step.make_train_step(
            learner,
            optimizer,
            source.episodes,
            mesh,
            chunk,
            steps,
            learner.paired,
        )
        return made.lower(*example).compile()

    stored = (record or {}).get("chunk", 0)
    each = tasks // mesh.size
    chunk = machine.choose_chunk(each, config.run.chunk, stored, compiled)
    if begun < steps:
        clock = time.monotonic()
        train_step = compiled(chunk)
        took = time.monotonic() - clock
        hosts.say(f"compiled the training step in {took:.0f} s")
    validate = judging.make_judge(
        domain.as_learned(learner),
        held,
        mesh,
        config.train.val_episodes,
        chunk,
    )

    # -------------------------------------------------------------- record
    record = domain.record_of(config, facts, chunk=chunk)
    hosts.meet("read")  # nobody writes before everybody has looked
    if hosts.first():
        workdirs.write(workdir, record)
    hosts.meet("written")

    def info(at: int) -> dict:
        return {**record, "step": at, "best": best, "seconds": seconds}

    # ---------------------------------------------------------------- loop
    log = bar = logs.Silent()
    if hosts.first():
        log = logs.Log(workdir, begun)
        name = f"{config.system} on {table.name}"
        bar = logs.Progress(name, begun, steps, tasks, metric)
    stop = signals.Stop(saved)
    every = max(1, round(config.train.val_every * steps))
    waiting: list[dict] = []
    clock = time.monotonic()
    with contextlib.closing(log), contextlib.closing(bar):
        for at in range(begun + 1, steps + 1):
            state, metrics = train_step(state, key, shared, next(pieces))
            waiting.append(metrics)
            judged = at % every == 0 or at == steps
            leave = stop.asked(at) if at < steps else None
            ends = judged or leave
            # One wait for the device per log line, none per step.
            if at == 1 or at % config.log.every == 0 or ends:
                values = [{k: float(v) for k, v in m.items()} for m in waiting]
                waiting = []
                workdirs.refuse_non_finite(
                    values, at, tasks, saved.kept("latest")
                )
                line = {
                    f"train/{k}": float(np.mean([v[k] for v in values]))
                    for k in values[0]
                }
                # At most this share of the time the device waits for data.
                took = time.monotonic() - clock
                line["train/data_share"] = pieces.seconds() / took
                bar.show(at, line["train/loss"], line[f"train/{metric}"])
                if judged:
                    scores = validate(state.meta)
                    held_out = float(scores.mean())
                    line[f"validation/{metric}"] = held_out
                seconds += time.monotonic() - clock
                clock = time.monotonic()
                log.write(at, line | {"train/seconds": seconds})
                if judged and better * (held_out - best[metric]) > 0:
                    best = {"step": at, metric: held_out}
                    saved.save("best", at, {"meta": state.meta}, info(at))
                if judged:
                    bar.say(
                        f"step {at}: validation {metric} {held_out:.3f} on "
                        f"{table.name} (best {best[metric]:.3f} at "
                        f"{best['step']})"
                    )
                if ends:
                    saved.save("latest", at, state, info(at))
            if leave:
                bar.close()
                signals.leave(leave, at, cli.command("train"))
    stop.restore()
    saved.close()

    # ---------------------------------------------------------- evaluation
    now = domain.of_use(config)
    result = evaluate.evaluate(workdir, overrides=now)
    if hosts.first():
        text = json.dumps(result, indent=1)
        files.write_whole(workdir / "result.json", text)
    hosts.say(results.sentence(result))
    hosts.say(f"everything lies in {workdir}")
    return result


if __name__ == "__main__":
    cli.door(main, "the same command goes on from the last checkpoint")
