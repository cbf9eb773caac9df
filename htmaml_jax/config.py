"""Defaults, `configs/x.py:arg=value`, and what may differ on resume."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from htmaml_jax.errors import UserError

# What `:name=value` may set besides full paths; several targets move together.
SHORTHANDS = {
    "way": ("data.way", "eval.way"),
    "shot": ("data.shot", "eval.shot"),
    "query": ("data.query", "eval.query"),
    "seed": ("run.seed",),
    "steps": ("train.steps",),
    "split": ("data.split",),
}
# What may differ between a run and its resume.
FREE = (
    "train.steps",
    "eval.",
    "run.",
    "log.",
    "data.dir",
    "data.download",
    "data.loader",
)
# Part of the run's identity although they stand under a free group.
FIXED = ("run.seed",)
# What evaluation may not change: it says how a checkpoint came to be.
OF_TRAINING = (
    "run.seed",
    *(
        f"data.{name}"
        for name in "way shot query min_way min_shot rate window hop mels "
        "seconds top_db rows columns channels".split()
    ),
)


def default() -> ConfigDict:
    """Returns every field with its default; configs state what differs.

    It is locked: a misspelt field or a value of another type is an error.
    """
    return ConfigDict(
        {
            "system": "htmaml",
            "data": {
                "name": "auto",  # or one of data.find.NAMES
                "dir": "",  # where to look first; see README for the order
                "download": False,  # agree to fetch the original archive
                "split": "animals",  # animals | metaaudio
                "recording": "",  # clips: regular expression with one group
                "loader": "device",  # device | tfdata
                "way": 5,
                "shot": 1,
                "query": 5,
                "min_way": 0,
                "min_shot": 0,  # 0: always way and shot
                "rate": 16000,
                "window": 1024,
                "hop": 512,
                "mels": 128,
                "seconds": 5.0,
                "top_db": 80.0,
                "rows": 32,
                "columns": 40,
                "channels": 1,
            },
            "net": {
                "width": 32,
                "blocks": 4,
                "down": "pool",  # pool | stem | stride
                "norm": "group",  # group | support | none
                "pool": "flat",  # flat | columns | mean
                "precision": "float32",  # float32 | bfloat16, of activations
            },
            "embed": {
                "body": "base",  # base: features of the base network | own
                "width": 16,  # of a body of its own
                "dim": 64,
            },
            "hyper": {
                "dim": 64,
                "layers": 2,
                "heads": 2,
                "dropout": 0.1,
                "scale": 0.1,
                "move_penalty": 0.0,
                # (regular expression on the path, family); first match wins
                "rules": (
                    ("body/conv./kernel", "lowrank(2)"),
                    ("body/norm.*", "affine"),
                    ("head/kernel", "rows"),
                ),
            },
            "inner": {"steps": 3, "size": 0.1},
            "outer": {
                "gradient": "mixed",  # plain | remat | mixed | first | reptile
                "rate": 1e-3,
                "warmup": 0.05,
                "floor": 0.02,
                "clip": 1.0,
                "decay": 0.0,  # weight decay of embed and hyper
                "augment": {
                    "roll": 0.0,
                    "time_mask": 0.0,
                    "row_mask": 0.0,
                    "gain": 0.0,
                    "mix": 0.0,
                    "reverse": 0.0,
                    "shift": 0.0,
                    "blend": 0.0,
                },
            },
            "train": {
                "steps": 1000,
                "tasks": 8,
                "val_every": 0.05,  # as a share of train.steps
                "val_episodes": 200,
            },
            "eval": {
                "way": 5,
                "shot": 1,
                "query": 5,
                "episodes": 1000,
                "seed": 0,
                "split": "test",
                "transductive": False,
            },
            "run": {
                "seed": 0,
                "chunk": 0,
                "devices": 0,
                "lowering": "auto",  # auto | patches | blocks | lax
            },
            "log": {"every": 20},
        }
    ).lock()


def parse(config: ConfigDict, arg: str | None) -> ConfigDict:
    """Applies the string after the colon, e.g. "system=maml,shot=5".

    Keys are full paths or `SHORTHANDS`; values must have the type of the
    field.
    """
    for item in filter(None, (arg or "").split(",")):
        if "=" not in item:
            raise UserError(
                f"{item!r} after the colon of --config is not name=value."
            )
        name, text = item.split("=", 1)
        set_fields(config, name, text)
    return config


def set_fields(config: ConfigDict, name: str, text: str) -> None:
    """Sets one field by its path, or the fields of a shorthand."""
    for path in SHORTHANDS.get(name, (name,)):
        set_field(config, path, text)


def set_field(config: ConfigDict, path: str, text: str) -> None:
    """Sets the field at a dotted path from text, checking its type."""
    known = flat(config)
    if path not in known:
        names = [*known, *SHORTHANDS]
        close = difflib.get_close_matches(path, names, 1, 0.5)
        hint = f"; did you mean {close[0]!r}?" if close else "."
        raise UserError(f"config has no field {path!r}{hint}")
    old, new = known[path], text
    if not isinstance(old, str):
        try:
            new = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            new = {"true": True, "false": False}.get(text.lower(), text)
    if isinstance(old, float) and type(new) is int:
        new = float(new)
    if type(new) is not type(old):
        raise UserError(
            f"config field {path!r} is {type(old).__name__}, e.g. {old!r}; "
            f"{text!r} is not."
        )
    put(config, path, new)


def put(config: ConfigDict, path: str, value: Any) -> None:
    """Sets the field at a dotted path."""
    *groups, last = path.split(".")
    for group in groups:
        config = config[group]
    config[last] = value


def flat(config: Any, prefix: str = "") -> dict[str, Any]:
    """Returns {"data.way": 5, ...}."""
    fields = {}
    for key, value in config.items():
        if hasattr(value, "items"):
            fields |= flat(value, f"{prefix}{key}.")
        else:
            fields[prefix + key] = value
    return fields


def differences(old: Any, new: Any) -> list[str]:
    """Lists the fields that a resume must not change but does.

    Returns:
      Lines "data.way: 5 -> 20".
    """
    old, new = identity(old), identity(new)
    lines = []
    for key in sorted(old.keys() | new.keys()):
        was, now = old.get(key, "absent"), new.get(key, "absent")
        if was != now:
            lines.append(f"{key}: {was} -> {now}")
    return lines


def identity(config: Any, without: Sequence[str] = ()) -> dict[str, Any]:
    """Returns the fields that make a run what it is: all that are not FREE.

    Args:
      config: as a ConfigDict, or as JSON gives it back.
      without: further fields to leave out.
    """
    return {
        key: _plain(value)
        for key, value in sorted(flat(config).items())
        if key in FIXED or not key.startswith(FREE)
        if key not in without
    }


def _plain(value):
    # Tuples become lists on their way through JSON.
    if isinstance(value, (tuple, list)):
        return [_plain(v) for v in value]
    return value
