"""The record of a run, and what refuses to spoil one."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from etils import epath

from htmaml_jax import config as configs
from htmaml_jax import files
from htmaml_jax.errors import UserError

RECORD = "run.json"


def read(workdir: epath.Path) -> dict | None:
    """Returns the record of a workdir, or None for a new one.

    Raises:
      UserError: the folder holds something else.
    """
    record = workdir / RECORD
    if record.is_file():
        return files.read_json(record)
    there = workdir.iterdir() if workdir.is_dir() else ()
    # A file of that suffix is what a kill left of the first write.
    strange = any(path.suffix != ".part" for path in there)
    if strange or (workdir.exists() and not workdir.is_dir()):
        raise UserError(
            f"{workdir} exists and holds no run ({RECORD} is missing); use "
            "another --workdir."
        )
    return None


def write(workdir: epath.Path, record: dict) -> None:
    """Writes the record whole or not at all."""
    files.write_whole(workdir / RECORD, json.dumps(record, indent=1))


def refuse_change(workdir: epath.Path, record: dict, config: Any) -> None:
    """Refuses to resume with a config that may not differ but does.

    Nor does training go on where there is an encoder that was pre-trained.
    """
    if "scores" in record:
        raise UserError(
            f"{workdir} holds an encoder of pretrain; use another --workdir, "
            "and start from it with embed.pretrained or net.pretrained."
        )
    changed = configs.differences(record["config"], config)
    if changed:
        raise UserError(
            f"{workdir} was started with another config: "
            f"{'; '.join(changed)}. Use another --workdir, or go back."
        )


def names_other_data(old: Mapping, new: Mapping) -> bool:
    """Says whether config group `data` asks for others than a run learned."""
    which = ("dir", "name", "label_names")
    return any(new[k] != old.get(k, new[k]) for k in which)


def refuse_other_data(where: Any, old: dict, new: dict) -> None:
    """Refuses to go on with examples other than those of the start."""
    if old["fingerprint"] != new["fingerprint"]:
        raise UserError(
            f"{where} was trained on {old['name']} ({old['origin']}); the "
            f"data found now, {new['name']} ({new['origin']}), has other "
            "content. Point --config.data.dir at the former data, or use "
            "another --workdir."
        )


def refuse_other_form(where: Any, sizes: Mapping[str, tuple]) -> None:
    """Refuses data whose inputs have another shape than those of training.

    Args:
      where: the run.
      sizes: data.name -> shape; first what it learned on, then what is asked.
    """
    if len(set(sizes.values())) > 1:
        (old, known), (new, given) = sizes.items()
        raise UserError(
            f"{where} has learned on {old}, with inputs of the shape {known}; "
            f"{new} has {given}. Judge it on data of its own form."
        )


def refuse_other_domains(where: Any, old: dict, new: dict) -> None:
    """Refuses domains other than those that a system has learned by number."""
    if old.get("domains") != new["domains"]:
        raise UserError(
            f"{where} knows the domains {', '.join(old.get('domains', ()))} "
            f"by their number; it cannot be judged on {new['name']}."
        )


def _bare(names, domains):
    """Returns names without a mixture's "esc50: " and matters of writing."""
    found = set()
    for name in names:
        domain, sign, rest = name.partition(": ")
        told = sign and (domains is None or domain in domains)
        found.add(re.sub(r"[_ ]", "-", (rest if told else name).lower()))
    return found


def refuse_alike_classes(table: Any) -> None:
    """Refuses splits of which one has a class that is another's, too."""
    names = {
        split: _bare(classes, table.domains)
        for split, classes in table.splits.items()
    }
    for one, other in itertools.combinations(names, 2):
        if both := sorted(names[one] & names[other]):
            raise UserError(
                f"{table.name}: {both[0]!r} is a class of {one} and of {other},"
                " but for how it is written; give one class one name."
            )


def refuse_seen_classes(
    where: Any,
    seen: Mapping,
    splits: Mapping,
    split: str,
    domains: Collection[str] | None = None,
) -> None:
    """Refuses to judge on classes that training or selection has seen.

    Args:
      where: the run, named in the message.
      seen: split name -> class names, at training.
      splits: the same, of the data to judge on.
      split: of `splits`, the one to judge on. Judging on the training
        classes themselves is honest under that name.
      domains: of both; in a mixture a class is called "esc50: dog". None:
        whatever stands before such a sign.
    """
    earlier = {"validation": ("train",), "test": ("train", "validation")}
    mine = _bare(splits.get(split, ()), domains)
    for other in earlier.get(split, ()):
        both = sorted(mine & _bare(seen.get(other, ()), domains))
        if both:
            raise UserError(
                f"{where} has met {len(both)} of these {split} classes in "
                f"its {other} split, first {both[0]!r}: what it scores on "
                "them is no few-shot result. Choose the split of training."
            )


def refuse_shared_texts(where: Any, old: str, new: str) -> None:
    """Refuses to judge on a collection of which training has met texts."""
    if old != new and {old, new} <= configs.ONE_SOURCE:
        raise UserError(
            f"{where} was trained on {old}, which shares texts with {new}, "
            "under other class names; judge it on another collection."
        )


def refuse_met(
    where: Any,
    met: Sequence[Mapping],
    name: str,
    splits: Mapping,
    split: str,
) -> None:
    """Refuses classes and texts that what a run began from has learned from.

    Args:
      where: that run, or its start.
      met: see `starts.met`.
      name: data.name of what is judged on.
      splits: split name -> class names, of the same.
      split: of `splits`, the one to judge on.
    """
    for one in met:
        refuse_shared_texts(where, one["name"], name)
        # Also where nobody looked at a label.
        seen = {"train": one["train"]}
        refuse_seen_classes(where, seen, splits, split)


def refuse_other_encoder(where: Any, old: Mapping, new: Mapping) -> None:
    """Refuses texts that are not encoded as in training."""
    was, now = (x.get("front_end", {}).get("stamp") for x in (old, new))
    if was != now:
        raise UserError(
            f"{where} was trained with another encoder of texts ({was}) than "
            f"the one found now ({now}); set data.encoder to the former."
        )


def refuse_non_finite(
    metrics: list[dict[str, float]], last: int, tasks: int, kept: str
) -> None:
    """Stops at the first update whose numbers are not finite.

    Args:
      metrics: of consecutive meta-updates.
      last: the number of the last of them.
      tasks: episodes per meta-update.
      kept: says what remains to go on from.
    """
    for back, values in enumerate(reversed(metrics)):
        step = last - back
        bad = [k for k, v in values.items() if not math.isfinite(v)]
        earlier = metrics[: len(metrics) - back - 1]
        if bad and all(math.isfinite(v) for m in earlier for v in m.values()):
            first = (step - 1) * tasks
            raise UserError(
                f"{', '.join(bad)} not finite at step {step} (episodes "
                f"{first} to {first + tasks - 1}); {kept}. Lower "
                "outer.rate or inner.size."
            )
