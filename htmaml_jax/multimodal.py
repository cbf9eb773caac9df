"""Meta-trains several domains together, whose generators share a trunk.

`train` comes here with a config that names `joint.parts`. Every domain is a
run of its own config in WORKDIR/DOMAIN, to be evaluated and used as any other;
what is updated together stands in WORKDIR.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Collection
from typing import Any

import jax
import numpy as np
from etils import epath

from htmaml_jax import cli, domain, evaluate, files, results
from htmaml_jax import config as configs
from htmaml_jax.errors import UserError
from htmaml_jax.run import (
    checkpoints,
    hosts,
    joint,
    logs,
    machine,
    signals,
)
from htmaml_jax.run import mesh as meshes
from htmaml_jax.run import workdir as workdirs
from htmaml_jax.run.optimizer import make_optimizer

# What all parts must have in common, for one trunk to fit them all.
_COMMON = (
    "hyper.trunk",
    "hyper.dim",
    "hyper.layers",
    "hyper.heads",
    "embed.dim",
    "train.steps",
    "train.tasks",
    "train.val_every",
    "run.seed",
    "run.devices",
)
# What else a domain takes from the common config, where that says something.
_PASSED = ("data.loader", "data.download", "run.chunk", "run.lowering")
_PASSED += ("train.val_episodes",)
# What is of the update of all, or of the trunk's optimizer.
_OWN = ("joint.", "log.", "outer.rate", "outer.warmup")
_OWN += ("outer.floor", "outer.clip", "outer.decay", "outer.frozen")


def configs_of(config: Any, named: Collection[str] = ()) -> dict[str, Any]:
    """Returns domain -> config, read from the files that `joint` names.

    Args:
      config: of the whole run.
      named: fields that a person has set, be it to their defaults.
    """
    wanted = {name: file for name, file in config.joint.parts}
    if config.joint.only:
        names = config.joint.only.split("+")
        for name in names:
            if name not in wanted:
                raise UserError(
                    f"joint.only names {name!r}; there are {', '.join(wanted)}."
                )
        wanted = {name: wanted[name] for name in names}
    if len(wanted) < 2 or {"trunk", "doubt", "all"} & wanted.keys():
        raise UserError(
            "training together needs two domains or more, none of which is "
            f"called trunk, doubt or all; joint has {', '.join(wanted)}."
        )
    fields = configs.flat(config)
    plain = configs.parse(configs.default(), f"system={config.system}")
    plain = configs.flat(plain)
    said = [k for k in fields if plain[k] != fields[k] or k in named]
    lost = [k for k in said if not k.startswith((*_OWN, *_COMMON, *_PASSED))]
    if lost:
        raise UserError(
            f"each domain takes {', '.join(lost)} from its own config; name "
            "files that say it in joint.parts, such as "
            "'configs/asc.py:inner.steps=5'."
        )
    found = {}
    for name, file in wanted.items():
        taken = [*_COMMON, *(k for k in _PASSED if k in said)]
        common = [(path, str(fields[path])) for path in taken]
        common += [("system", config.system)]
        found[name], _ = cli.read_config(file, common)
        _refuse_lost(name, file, found[name])
    return found


def _refuse_lost(name, file, made):
    """Refuses what a part asks for and does not get: all have it alike."""
    now = configs.flat(made)
    for item in configs.items(file.partition(".py:")[2]):
        key, _, text = item.partition("=")
        for path in configs.SHORTHANDS.get(key, (key,)):
            if path not in ("system", *_COMMON):
                continue
            asked = made.copy_and_resolve_references()
            configs.set_field(asked, path, text)
            if configs.flat(asked)[path] != now[path]:
                raise UserError(
                    f"{name} asks for {item}, all together for {path}="
                    f"{now[path]}; say it once, outside of joint.parts."
                )


def train(
    config: Any, workdir: epath.Path, named: Collection[str] = ()
) -> dict[str, dict]:
    """Trains all domains of a config, then evaluates each.

    Args:
      config: of the whole run.
      workdir: for it, and a folder of each domain.
      named: see `configs_of`.

    Returns:
      Domain -> the result that is also written to its result.json.
    """
    # ------------------------------------------------------------- workdir
    machine.use_cache()
    record = workdirs.read(workdir)
    if record:
        workdirs.refuse_change(workdir, record, config)
    saved = checkpoints.Checkpoints(workdir)
    begun = saved.step("latest") or 0
    steps, tasks = config.train.steps, config.train.tasks
    if begun > steps:
        raise UserError(
            f"{workdir} is at step {begun}, beyond train.steps={steps}; "
            "raise it."
        )

    # ------------------------------------------------------------- domains
    mesh = meshes.make_mesh(tasks, config.run.devices)
    key = meshes.replicate(mesh, jax.random.key(config.run.seed))
    domains, metas, optimizers, readers = {}, {}, {}, {}
    for name, own in configs_of(config, named).items():
        hosts.say(f"--- {name}")
        old = (record or {}).get("data", {}).get(name)
        if before := workdirs.read(workdir / name):
            workdirs.refuse_change(workdir / name, before, own)
        domains[name], metas[name] = domain.open_domain(
            own, name, workdir, begun, old, mesh, key
        )
        optimizers[name] = make_optimizer(own.outer, steps)
        # At the rate of a common one, but anew where its domain is.
        outer = config.outer.copy_and_resolve_references()
        outer.joint_until = own.outer.joint_until
        readers[name] = make_optimizer(outer, steps)
    if config.joint.shared:
        readers = {"all": make_optimizer(config.outer, steps)}
    optimizers["trunk"] = readers
    optimizers["doubt"] = joint.doubts()
    if config.joint.shared:
        domain.tell_of_each_other(domains)
    state = joint.init(metas, optimizers, config.joint.shared)
    state = meshes.replicate(mesh, state)
    sizes = sum(x.size for x in jax.tree.leaves(state.trunks))
    kind = "trunk of all" if config.joint.shared else "trunks of each"
    hosts.say(f"--- {kind}: {sizes} parameters")
    best = {
        name: {"step": 0, _metric(d): -_better(d) * math.inf}
        for name, d in domains.items()
    }
    seconds = 0.0
    if begun:
        state = saved.state("latest", state)
        resumed = saved.info("latest")
        best, seconds = resumed["best"], resumed["seconds"]
        hosts.say(f"resumed: {workdir} at step {begun} of {steps}")
    update = joint.make_update(optimizers, config.joint.weigh)

    # -------------------------------------------------------------- record
    record = domain.record_of(
        config, {name: d.facts for name, d in domains.items()}
    )
    parts = {name: checkpoints.Checkpoints(workdir / name) for name in domains}
    hosts.meet("read")
    if hosts.first():
        workdirs.write(workdir, record)
        for name, d in domains.items():
            workdirs.write(workdir / name, d.record)
    hosts.meet("written")

    # ---------------------------------------------------------------- loop
    log = bar = logs.Silent()
    if hosts.first():
        log = logs.Log(workdir, begun)
        name = f"{config.system} on {'+'.join(domains)}"
        bar = logs.Progress(name, begun, steps, tasks * len(domains), "loss")
    stop = signals.Stop(saved)
    every = max(1, round(config.train.val_every * steps))
    waiting: list[dict] = []
    clock = time.monotonic()
    with contextlib.closing(log), contextlib.closing(bar):
        for at in range(begun + 1, steps + 1):
            gradients, losses, line = {}, {}, {}
            for name, d in domains.items():
                gradients[name], metrics = d.gradient(
                    joint.meta_of(state, name),
                    key,
                    state.step,
                    d.shared,
                    next(d.pieces),
                )
                losses[name] = metrics["objective"]
                line |= {f"{name}/{k}": v for k, v in metrics.items()}
            state, shares = update(state, gradients, losses)
            line |= {f"{name}/weight": w for name, w in shares.items()}
            waiting.append(line)
            judged = at % every == 0 or at == steps
            leave = stop.asked(at) if at < steps else None
            ends = judged or leave
            if not (at == 1 or at % config.log.every == 0 or ends):
                continue
            values = [{k: float(v) for k, v in m.items()} for m in waiting]
            waiting = []
            workdirs.refuse_non_finite(values, at, tasks, saved.kept("latest"))
            line = {
                f"train/{k}": float(np.mean([v[k] for v in values]))
                for k in values[0]
            }
            line["train/loss"] = np.mean(
                [line[f"train/{name}/loss"] for name in domains]
            )
            # At most this share of the time the device waits for data.
            took = time.monotonic() - clock
            waited = sum(d.pieces.seconds() for d in domains.values())
            line["train/data_share"] = waited / took
            bar.show(at, line["train/loss"], line["train/loss"])
            scores = {}
            if judged:
                for name, d in domains.items():
                    whole = joint.meta_of(state, name)
                    scores[name] = float(d.validate(whole).mean())
                    line[f"validation/{name}/{_metric(d)}"] = scores[name]
                said = ", ".join(f"{k} {x:.3f}" for k, x in scores.items())
                bar.say(f"step {at}: validation {said}")
            seconds += time.monotonic() - clock
            clock = time.monotonic()
            log.write(at, line | {"train/seconds": seconds})
            for name, score in scores.items():
                d = domains[name]
                if _better(d) * (score - best[name][_metric(d)]) > 0:
                    best[name] = {"step": at, _metric(d): score}
                    info = _info(d, at, best[name], seconds / len(domains))
                    meta = {"meta": joint.meta_of(state, name)}
                    parts[name].save("best", at, meta, info)
            if ends:
                for name, d in domains.items():
                    info = _info(d, at, best[name], seconds / len(domains))
                    meta = {"meta": joint.meta_of(state, name)}
                    parts[name].save("latest", at, meta, info)
                info = {**record, "step": at, "best": best, "seconds": seconds}
                saved.save("latest", at, state, info)
            if leave:
                bar.close()
                signals.leave(leave, at, cli.command("train"))
    stop.restore()
    for some in (saved, *parts.values()):
        some.close()

    # ---------------------------------------------------------- evaluation
    found = {}
    for name, d in domains.items():
        now = domain.of_use(d.config)
        found[name] = evaluate.evaluate(workdir / name, overrides=now)
        if hosts.first():
            text = json.dumps(found[name], indent=1)
            files.write_whole(workdir / name / "result.json", text)
        hosts.say(results.sentence(found[name]))
    hosts.say(f"everything lies in {workdir}")
    return found


def _metric(domain):
    return domain.learner.problem.metric


def _better(domain):
    return domain.learner.problem.better


def _info(domain, at, best, seconds):
    return {**domain.record, "step": at, "best": best, "seconds": seconds}
