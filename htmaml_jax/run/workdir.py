"""The record of a run, and what refuses to spoil one."""

from __future__ import annotations

import json
import math
import os
import pathlib
from typing import Any

from htmaml_jax import config as configs
from htmaml_jax.cli import read_json
from htmaml_jax.errors import UserError

RECORD = "run.json"


def read(workdir: pathlib.Path) -> dict | None:
    """Returns the record of a workdir, or None for a new one.

    Raises:
      UserError: the folder holds something else.
    """
    record = workdir / RECORD
    if record.is_file():
        return read_json(record)
    if workdir.exists() and (not workdir.is_dir() or any(workdir.iterdir())):
        raise UserError(
            f"{workdir} exists and holds no run ({RECORD} is missing); use "
            "another --workdir."
        )
    return None


def write(workdir: pathlib.Path, record: dict) -> None:
    """Writes the record whole or not at all."""
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        beside = workdir / f"{RECORD}.tmp"
        beside.write_text(json.dumps(record, indent=1))
        os.replace(beside, workdir / RECORD)
    except OSError as error:
        raise UserError(
            f"{workdir} cannot be written ({error.strerror}); use another "
            "--workdir or free space."
        ) from error


def refuse_change(workdir: pathlib.Path, record: dict, config: Any) -> None:
    """Refuses to resume with a config that may not differ but does."""
    changed = configs.differences(record["config"], config)
    if changed:
        raise UserError(
            f"{workdir} was started with another config: "
            f"{'; '.join(changed)}. Use another --workdir, or go back."
        )


def refuse_other_data(where: Any, old: dict, new: dict) -> None:
    """Refuses to go on with examples other than those of the start."""
    if old["fingerprint"] != new["fingerprint"]:
        raise UserError(
            f"{where} was trained on {old['name']} ({old['origin']}); the "
            f"data found now, {new['name']} ({new['origin']}), has other "
            "content. Point --config.data.dir at the former data, or use "
            "another --workdir."
        )


def refuse_non_finite(
    metrics: list[dict[str, float]], last: int, tasks: int, workdir: Any
) -> None:
    """Stops at the first update whose numbers are not finite.

    Args:
      metrics: of consecutive meta-updates.
      last: the number of the last of them.
      tasks: episodes per meta-update.
      workdir: named in the message.
    """
    for back, values in enumerate(reversed(metrics)):
        step = last - back
        bad = [k for k, v in values.items() if not math.isfinite(v)]
        earlier = metrics[: len(metrics) - back - 1]
        if bad and all(math.isfinite(v) for m in earlier for v in m.values()):
            first = (step - 1) * tasks
            raise UserError(
                f"{', '.join(bad)} not finite at step {step} (episodes "
                f"{first} to {first + tasks - 1}); the last good checkpoint "
                f"stays in {workdir}. Lower outer.rate or inner.size."
            )
