"""Pre-trains an encoder: python -m htmaml_jax.pretrain --config FILE.

Contrastive, on the examples of the meta-training classes, without labels: of
sounds, pictures and volumes the task encoder, from which `train` starts with
--config.embed.pretrained=WORKDIR, of texts the base network, with
--config.net.pretrained=WORKDIR.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import time
from collections.abc import Sequence
from typing import Any

from etils import epath

from htmaml_jax import cli
from htmaml_jax.config import form
from htmaml_jax.errors import UserError

_TASKS = 1000  # validation tasks that features are scored by
_WAY = 5  # structures to tell from each other, of volumes
_EVERY = 50  # updates per log line


def main(argv: Sequence[str]) -> None:
    """Pre-trains in a new workdir."""
    parser = argparse.ArgumentParser(
        prog="python -m htmaml_jax.pretrain",
        description="Pre-train an encoder on unlabelled clips, texts or "
        "volumes.",
        epilog="Any field: --config.GROUP.FIELD=VALUE; those of the group "
        "pretrain are listed in defaults.py.",
    )
    parser.add_argument(
        "--config", required=True, metavar="FILE[:name=value,...]"
    )
    parser.add_argument(
        "--workdir",
        type=epath.Path,
        help="a new folder (default: runs/CONFIG-pretrain-sSEED)",
    )
    flags, overrides = cli.parse(parser, argv)
    config, name = cli.read_config(flags.config, overrides)
    name = f"{name}-pretrain-s{config.run.seed}"
    pretrain(config, flags.workdir or epath.Path("runs") / name)


def pretrain(config: Any, workdir: epath.Path) -> dict[str, Any]:
    """Pre-trains the encoder of a config.

    Returns:
      The scores of its features before and after.
    """
    import jax
    import numpy as np
    import optax

    from htmaml_jax import domain, evaluate, fillings
    from htmaml_jax.data import find, sources
    from htmaml_jax.embed.contrastive import Projected
    from htmaml_jax.embed.volume_encoder import both_sides
    from htmaml_jax.outer.views import strengths
    from htmaml_jax.run import checkpoints, logs, machine, pretraining
    from htmaml_jax.run import workdir as workdirs

    # ---------------------------------------------------------------- data
    machine.use_cache()
    if config.joint.parts:
        files = ", ".join(file for _, file in config.joint.parts)
        raise UserError(
            "joint.parts are not pre-trained together; give the config of "
            f"one of them: {files}."
        )
    wanted = config.pretrain
    kind = form(config.data)
    if kind not in ("pictures", "ngrams", "volumes"):
        raise UserError(
            f"the {kind} of data.name={config.data.name} are not pre-trained "
            "on; only sounds, pictures, volumes and, with "
            "data.encoder=ngrams, texts are."
        )
    cells = 2**config.net.blocks
    if kind == "volumes" and config.data.side % cells:
        raise UserError(
            f"data.side is {config.data.side}; the encoder halves it "
            f"net.blocks={config.net.blocks} times: make it a multiple of "
            f"{cells}."
        )
    if workdirs.read(workdir):
        raise UserError(f"{workdir} holds a run; use another --workdir.")
    table = find.load(config.data)
    print(f"data: {table.name} ({table.origin}), {table.describe()}")
    table = table.standardised()
    facts = evaluate.facts(table)
    facts |= {"scale": list(table.scale), "splits": dict(table.splits)}
    rows, held = table.rows_of("train"), table.rows_of("validation")
    batch = min(wanted.batch, len(rows))
    shared, sample = sources.pairs(table, rows, batch)

    # --------------------------------------------------------------- model
    texts = kind == "ngrams"
    body = (fillings.body if texts else fillings.own_body)(config)
    network = Projected(body, wanted.width)
    views = strengths(wanted)
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, wanted.rate, max(1, wanted.steps // 20), max(2, wanted.steps)
    )
    optimizer = optax.adamw(schedule, weight_decay=wanted.decay)
    key = jax.random.key(config.run.seed)
    example = next(sources.batches(table, rows, 2))
    params = network.init(key, example)["params"]
    state = optimizer.init(params)
    step = pretraining.make_step(
        network, optimizer, sample, views, wanted.temperature
    )

    # -------------------------------------------------------------- scores
    volumes = table.masks is not None
    shape = find.fixed_shape(config.data)
    if volumes:
        shape = pretraining.telling(table, "validation", _WAY)

    def scores() -> dict[str, float]:
        if shape is None:
            return {}
        found = pretraining.features_of(
            body, params["body"], sources.batches(table, held, batch)
        )[: len(held)]
        if volumes:
            found = np.asarray(both_sides(found, table.inside(held)))
        known = table.with_features(held, found)
        episodes = sources.device(known, shape, "validation", 0)
        return {
            "nearest": pretraining.nearest(episodes, shape.way, _TASKS),
            "linear": pretraining.probe(
                found, table.labels[held], table.recordings[held]
            ),
        }

    def say(when: str, found: dict[str, float]) -> None:
        if not found:
            print(f"{when}: no score, too few validation structures")
            return
        print(
            f"{when}: validation classes of {table.name}, nearest prototype "
            f"{found['nearest']:.3f} ({shape.way}-way {shape.shot}-shot), "
            f"linear probe {found['linear']:.3f}"
        )

    before = scores()
    say("before", before)

    # ---------------------------------------------------------------- loop
    clock = time.monotonic()
    bar = logs.Progress(
        f"encoder on {table.name}", 0, wanted.steps, batch, "loss"
    )
    lines = []
    with contextlib.closing(bar):
        for at in range(1, wanted.steps + 1):
            now = jax.random.fold_in(key, at)
            params, state, loss = step(params, state, shared, now)
            if at == 1 or at % _EVERY == 0 or at == wanted.steps:
                loss = float(loss)
                if not math.isfinite(loss):
                    raise UserError(
                        f"the loss is not finite at step {at}; lower "
                        "pretrain.rate. Nothing was written."
                    )
                bar.show(at, loss, loss)
                lines.append((at, {"train/loss": loss}))
    seconds = time.monotonic() - clock
    after = scores()
    say("after", after)

    # -------------------------------------------------------------- record
    record = domain.record_of(
        config,
        facts,
        command=cli.command("pretrain"),
        seconds=seconds,
        scores={"before": before, "after": after},
    )
    saved = checkpoints.Checkpoints(workdir)
    meta = {"meta": {"body": params["body"]}}
    saved.save("latest", wanted.steps, meta, record)
    saved.close()
    workdirs.write(workdir, record)
    with contextlib.closing(logs.Log(workdir, 0)) as log:
        for at, line in lines:
            log.write(at, line)
    group = "net" if texts else "embed"
    print(f"to use it: --config.{group}.pretrained={workdir}")
    return record["scores"]


if __name__ == "__main__":
    cli.door(main)
