"""One domain of a run: its data, and all that a joint update asks of it."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

from htmaml_jax import cli, evaluate, starts, systems
from htmaml_jax import config as configs
from htmaml_jax.data import find
from htmaml_jax.errors import UserError
from htmaml_jax.nets import conv
from htmaml_jax.run import hosts, joint, judging, logs, machine
from htmaml_jax.run import mesh as meshes
from htmaml_jax.run import workdir as workdirs


class Data(NamedTuple):
    """What a run learns from and chooses by.

    Attributes:
      table: all examples, standardised.
      facts: what records and results say of them.
      source: episodes of the training split.
      held: those of the validation split.
    """

    table: Any
    facts: dict[str, Any]
    source: Any
    held: Any


def open_data(config: Any, where: Any, old: dict | None = None) -> Data:
    """Loads what a config asks for, and says what it is.

    Args:
      config: of a run.
      where: its workdir, named in messages.
      old: facts that an earlier session recorded; other data are refused.
    """
    table = find.load(config.data)
    hosts.say(
        f"data: {table.name} ({table.origin}), {table.describe()}, "
        f"{table.licence}"
    )
    facts = evaluate.facts(table)
    if old:
        workdirs.refuse_other_data(where, old, facts)
    find.check_domains(config.data, table)
    workdirs.refuse_alike_classes(table)
    facts["met"] = (
        old.get("met", []) if old else starts.met(config, table.splits)
    )
    table = table.standardised()
    facts |= {"scale": list(table.scale), "splits": dict(table.splits)}
    shape = find.training_shape(config.data, config.outer.domain_query)
    loader = config.data.loader
    source = find.source(table, shape, "train", config.run.seed, loader)
    held_shape = find.fixed_shape(config.data)
    held = find.source(table, held_shape, "validation", 0, loader)
    # What training ends with is refused before it begins.
    if config.eval.support == "own":
        judged_source(table, config.eval, loader)
    else:
        table.of_domain(config.eval.domain, config.eval.split)
    return Data(table, facts, source, held)


def judged_source(
    table: Any, judged: Any, loader: str
) -> tuple[Any, find.draw.Shape, Any]:
    """Returns what the config group `eval` asks for.

    Returns:
      The table, or one domain of it; the shape of episodes; their source.
    """
    if judged.domain:
        table = table.of_domain(judged.domain, judged.split)
    shape = find.fixed_shape(judged)
    source = find.source(table, shape, judged.split, judged.seed, loader)
    return table, shape, source


def of_use(config: Any) -> list[tuple[str, str]]:
    """Returns overrides by which `evaluate` judges as a config says now."""
    return [
        (path, str(value))
        for path, value in configs.flat(config).items()
        if path.startswith(configs.OF_USE) and path not in configs.FIXED
    ]


def as_learned(learner: Any) -> Any:
    """Returns the learner without what `eval` adds or takes away.

    By its validation a checkpoint is the best; were that to depend on fields
    which a resume may change, it would be compared with another measure.
    """
    config = learner.config.copy_and_resolve_references()
    config.eval.update(strength=1.0, finetune=0)
    return dataclasses.replace(learner, config=config)


def record_of(config: Any, facts: Any, **more: Any) -> dict[str, Any]:
    """Returns what a run writes down of itself, as JSON.

    Args:
      config: of the run.
      facts: of its data.
      **more: what only some runs have.
    """
    return {
        "config": config.to_dict(),
        "data": facts,
        "lowering": conv.resolve(config.run.lowering),
        "hardware": machine.hardware(),
        "versions": cli.versions(),
        "commit": cli.commit(),
        **more,
    }


class Domain(NamedTuple):
    """One of the domains.

    Attributes:
      config: its own, with what is common to all.
      facts: see `evaluate.facts`.
      learner: its system.
      shared: arrays of its episode source.
      pieces: timed iterator over what the steps are given.
      gradient: compiled (meta, key, step, shared, pieces) -> (gradient,
        metrics).
      validate: meta -> metric of validation episodes.
      record: see `train`.
    """

    config: Any
    facts: dict[str, Any]
    learner: Any
    shared: Any
    pieces: logs.Timed
    gradient: Callable
    validate: Callable
    record: dict[str, Any]


def open_domain(
    config: Any,
    name: str,
    workdir: Any,
    begun: int,
    old: dict | None,
    mesh: jax.sharding.Mesh,
    key: jax.Array,
) -> tuple[Domain, Any]:
    """Returns a Domain and its meta at step 0; see `multimodal.train`."""
    table, facts, source, held = open_data(config, workdir, old)
    tasks = config.train.tasks
    known = len(table.splits.get("train", ()))
    learner = evaluate.build(config, config.data.way, known=known)
    meta = learner.init(key, find.blank_episode(config.data))
    if not begun:
        meta = starts.install(meta, config)
    hosts.say(systems.describe(learner, meta))
    chunk = machine.choose_chunk(tasks // mesh.size, config.run.chunk, 0)
    gradient = joint.make_gradient(
        learner,
        source.episodes,
        mesh,
        chunk,
        config.train.steps,
        learner.paired,
    )
    validate = judging.make_judge(
        as_learned(learner), held, mesh, config.train.val_episodes, chunk
    )
    # A part of a run of several domains.
    known = record_of(config, facts, chunk=chunk, part=name)
    place = jax.process_index(), jax.process_count()
    drawn = source.pieces(begun * tasks, tasks, *place)
    domain = Domain(
        config,
        facts,
        learner,
        meshes.replicate(mesh, source.shared),
        logs.Timed(meshes.shard(mesh, x) for x in drawn),
        gradient,
        validate,
        known,
    )
    return domain, meta


def tell_of_each_other(domains: Mapping[str, Domain]) -> None:
    """Notes in each domain's facts what a trunk of all learns in the others.

    Raises:
      UserError: one of them trains on what another holds out.
    """
    for (name, mine), (key, other) in itertools.permutations(
        domains.items(), 2
    ):
        data, splits = mine.config.data.name, mine.facts["splits"]
        classes = list(other.facts["splits"].get("train", ()))
        learned = {"name": other.config.data.name, "train": classes}
        try:
            for split in ("validation", "test"):
                workdirs.refuse_met(key, [learned], data, splits, split)
        except UserError as error:
            raise UserError(
                f"{key} would teach the trunk what {name} holds out ({error}) "
                "Change the split of one, leave one out (joint.only), or set "
                "joint.shared=False."
            ) from error
        if learned not in mine.facts["met"]:
            mine.facts["met"].append(learned)
