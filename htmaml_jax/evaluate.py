"""Judges checkpoints: python -m htmaml_jax.evaluate RUN [RUN ...]."""

from __future__ import annotations

import argparse
import functools
import pathlib
from collections.abc import Sequence
from typing import Any

from etils import epath

from htmaml_jax import cli, intervals, results, surfaces
from htmaml_jax.config import needs_domain
from htmaml_jax.errors import UserError


def main(argv: Sequence[str]) -> None:
    """Evaluates runs on identical episodes and compares them."""
    parser = argparse.ArgumentParser(
        prog="python -m htmaml_jax.evaluate",
        description="Evaluate trained runs on identical episodes.",
        epilog="Overrides: --config.eval.shot=5, --config.eval.episodes=2000, "
        "--config.eval.split=validation, --config.eval.transductive=True, "
        "--config.data.loader=tfdata, ...",
    )
    parser.add_argument(
        "runs", nargs="+", type=epath.Path, help="workdirs of train"
    )
    parser.add_argument(
        "--checkpoint", choices=("best", "latest"), default="best"
    )
    parser.add_argument(
        "--out",
        type=epath.Path,
        help="folder that gets one JSON per run, e.g. results",
    )
    parser.add_argument(
        "--variant",
        type=cli.variant,
        default="",
        help="names an ablation in the result",
    )
    parser.add_argument(
        "--benchmark",
        type=cli.word,
        help="names the table of the result, if not the data",
    )
    parser.add_argument(
        "--pictures",
        action="store_true",
        help="draw what the first tasks show, into WORKDIR/pictures",
    )
    flags, overrides = cli.parse(parser, argv)
    found = []
    for run in flags.runs:
        result = evaluate(run, flags.checkpoint, overrides, flags.pictures)
        variant = f"{flags.variant}+{result['variant']}".split("+")
        named = [x for x in dict.fromkeys(variant) if x not in ("", "default")]
        result["variant"] = "+".join(named) or "default"
        result["benchmark"] = flags.benchmark or result["benchmark"]
        print(results.sentence(result), flush=True)
        found.append(result)
    (name, first), *others = results.group(found, flags.runs).items()
    for other, rival in others:
        print(results.compare((other, rival), (name, first)))
    if flags.out:
        for path in results.write_all(found, flags.out):
            print(f"written: {path}")


def evaluate(
    workdir: epath.Path,
    series: str = "best",
    overrides: Sequence[tuple[str, str]] = (),
    draw: bool = False,
) -> dict[str, Any]:
    """Evaluates one checkpoint and returns the result of DESIGN.md's form.

    Args:
      workdir: folder written by train.
      series: "best" or "latest".
      overrides: (name, text) for eval.*, run.* and data.*.
      draw: also write pictures into the workdir.
    """
    from htmaml_jax import domain, outside, transfer
    from htmaml_jax.data import find, sources
    from htmaml_jax.data.table import Scale
    from htmaml_jax.run import judging, logs, machine
    from htmaml_jax.run import mesh as meshes
    from htmaml_jax.run import workdir as workdirs

    machine.use_cache()
    info, meta, config = restore(workdir, series, overrides)
    judged, volumes = config.eval, config.net.output == "voxels"
    if draw and config.embed.control == "shuffled":
        raise UserError(
            "--pictures show what a task makes of its own support set, which "
            "embed.control=shuffled does not; leave --pictures out."
        )
    table = find.load(config.data)
    told = facts(table)
    if not workdirs.names_other_data(info["config"]["data"], config.data):
        workdirs.refuse_other_data(workdir, info["data"], told)
    workdirs.refuse_other_encoder(workdir, info["data"], told)
    learned = info["config"]["data"]["name"]
    workdirs.refuse_shared_texts(workdir, learned, config.data.name)
    seen = info["data"]["splits"]
    about = table.splits, judged.split
    domains = {*info["data"]["domains"], *table.domains}
    workdirs.refuse_seen_classes(workdir, seen, *about, domains)
    met = info["data"].get("met", ())
    workdirs.refuse_met(workdir, met, config.data.name, *about)
    if needs_domain(config):
        workdirs.refuse_other_domains(workdir, info["data"], told)
    table = table.standardised(Scale(*info["data"]["scale"]))
    learner = build(config, judged.way, judged.transductive)
    more, of = {}, {}
    told |= {"domain": judged.domain} if judged.domain else {}
    shot, query, mark = judged.shot, judged.query, judged.seed
    if judged.support == "own":
        part, shape, source = domain.judged_source(
            table, judged, config.data.loader
        )
        mesh = meshes.make_mesh(0, config.run.devices)
        count = judged.episodes
        judge = judging.make_judge(
            learner,
            source,
            mesh,
            count,
            info["chunk"],
            functools.partial(surfaces.answers, learner) if volumes else None,
            config.run.chunk,
        )
        tell = logs.waiting(f"{judged.split} tasks", count)
        values = judge(meshes.replicate(mesh, meta), tell)
        if volumes:
            values, found, truth = values
            about = part, shape, judged.seed, judged.split, count
            more["surfaces"] = surfaces.compare(
                found, truth, part, *sources.asked(*about), judged.tolerance
            )
        if draw:
            from htmaml_jax import pictures

            folder = pathlib.Path(workdir) / "pictures"
            for path in pictures.write(folder, learner, meta, part, source):
                print(f"drawn: {path}")
        of = find.domains(part, judged.split, judged.seed, count)
        if table.outside is not None and not learner.shuffled:
            known = outside.judge(learner, meta, part, source, count)
            more["out_of_scope"] = known
    elif draw:
        raise UserError(
            "--pictures are of episodes, and there are none with eval.support="
            f"{judged.support}; leave one of them out."
        )
    else:
        found = transfer.judge(learner, meta, table, judged)
        values, more = found.values, {"corpus": found.corpus}
        more |= {"self_training": found.rounds} if found.rounds else {}
        shot, query, mark = 0, transfer.CHUNK, "chunks"
    from htmaml_jax.systems import sizes

    benchmark = find.benchmark(table, config.data, judged.domain)
    if "part" in info:
        # Trained beside others: no row of the domain's own table.
        own = config.data.name == learned and not judged.domain
        benchmark = f"multimodal-{info['part'] if own else benchmark}"
    if judged.domain:
        mark = f"{judged.domain}-{mark}"
    variant = transfer.VARIANTS[judged.support]
    marks = [] if variant == "default" else [variant]
    if judged.strength != 1:
        marks += [f"strength{judged.strength:g}"]
    if judged.finetune:
        marks += [f"tuned{judged.finetune}"]
        bent = judged.finetune_bend
        marks += [f"bent{bent:g}"] if bent else []

    def summary(mine=slice(None), name=""):
        found = {"values": values[mine], **more}
        half = intervals.rounded(intervals.interval([found], name))
        return intervals.summary(values[mine]) | {"ci95": half}

    return {
        "benchmark": benchmark,
        "system": config.system,
        "variant": "+".join(marks) or "default",
        "seed": config.run.seed,
        "split": judged.split,
        "way": judged.way,
        "shot": shot,
        "query": query,
        "metric": learner.problem.metric,
        "inductive": not judged.transductive,
        "episodes": len(values),
        **summary(),
        "by_domain": {
            name: summary(mine, name)
            for name, mine in of.items()
            if mine.sum() > 1
        },
        **more,
        "values": [round(float(v), 4) for v in values],
        "episodes_id": f"{told['fingerprint']}-{judged.split}-{mark}-0",
        "data": told,
        "train": {
            "meta_iterations": info["step"],
            "tasks": info["step"] * config.train.tasks,
            "minutes": round(info["seconds"] / 60, 1),
            "checkpoint": info["checkpoint"],
            "hardware": info["hardware"],
            "parameters": sizes(meta),
            "validation": info["best"],
        },
        "config": config.to_dict(),
        "command": cli.command("evaluate"),
        "commit": info["commit"],
        "versions": info["versions"],
    }


def restore(
    workdir: epath.Path,
    series: str = "best",
    overrides: Sequence[tuple[str, str]] = (),
) -> tuple[dict[str, Any], Any, Any]:
    """Reads (info, meta, config) of a checkpoint.

    The info and the config are those of the latest checkpoint, also where the
    best one is from half-way: they say what the run has cost altogether, and
    where it was resumed. `info["checkpoint"]` says which one meta is.
    """
    import jax

    from htmaml_jax.data import find
    from htmaml_jax.data import sentence_folder as folders
    from htmaml_jax.run import checkpoints
    from htmaml_jax.run import workdir as workdirs

    if not workdir.is_dir():
        raise UserError(f"{workdir} is not a folder; give a run of train.")
    saved = checkpoints.Checkpoints(workdir)
    info = saved.info("latest")
    if "splits" not in info["data"]:
        raise UserError(
            f"{workdir} is a run of several domains; give the folder of one: "
            f"{', '.join(str(workdir / name) for name in info['data'])}."
        )
    info["checkpoint"] = {"series": series, "step": saved.step(series)}
    config = cli.restore_config(info["config"], overrides)
    # As in training, where a data set may have had its own seconds.
    known = info["data"]["front_end"]
    config.data.seconds = known.get("seconds", config.data.seconds)
    trained = cli.restore_config(info["config"])
    sizes = {
        x.data.name: find.blank_episode(x.data).support.inputs.shape[1:]
        for x in (trained, config)
    }
    workdirs.refuse_other_form(workdir, sizes)
    if config.data.tokens:
        # Weights of another one would not even fit.
        stamp = {"stamp": folders.stamp(folders.find(config.data.encoder))}
        now = {"front_end": stamp}
        workdirs.refuse_other_encoder(workdir, info["data"], now)
    known = len(info["data"]["splits"].get("train", ()))
    learner = build(config, config.data.way, known=known)
    example = find.blank_episode(config.data)
    like = jax.eval_shape(learner.init, jax.random.key(0), example)
    meta = saved.meta(series, like)
    saved.close()
    return info, meta, config


def build(config: Any, way: int, transductive: bool = False, known: int = 0):
    """Builds a learner; imported late, as all that needs jax."""
    from htmaml_jax import systems
    from htmaml_jax.data.sentence_folder import base

    return systems.build(config, way, transductive, known, base(config.data))


def facts(table: Any) -> dict[str, Any]:
    """Returns what a result says about its data."""
    return {
        "name": table.name,
        "origin": table.origin,
        "fingerprint": table.fingerprint,
        "licence": table.licence,
        "front_end": dict(table.front_end),
        "domains": list(table.domains),
    }


if __name__ == "__main__":
    cli.door(main)
