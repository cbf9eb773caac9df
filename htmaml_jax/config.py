"""Defaults, `configs/x.py:arg=value`, and what may differ on resume."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from htmaml_jax.defaults import FIELDS
from htmaml_jax.errors import UserError
from htmaml_jax.presets import NEUTRAL, PRESETS

# What `:name=value` may set besides full paths; several targets move together.
SHORTHANDS = {
    "way": ("data.way", "eval.way"),
    "shot": ("data.shot", "eval.shot"),
    "query": ("data.query", "eval.query"),
    "seed": ("run.seed",),
    "steps": ("train.steps",),
    "split": ("data.split",),
}
# Families of functions, and of how many kinds each draws.
KINDS = {
    "regression6-0-5": 6,
    "regression6-5-5": 6,
    "modes2": 2,
    "modes3": 3,
    "modes5": 5,
}
# Collections of texts; "texts" are one's own.
TEXTS = ("banking77", "clinc150", "hwu64", "liu", "texts", "hate", "xsid")
# Those whose classes have names, which a head keeps from task to task.
NAMED = ("hate",)
# Those whose splits are languages, each a domain.
LANGUAGES = ("hate", "xsid")
# Collections of volumes; "decathlon" is a folder of that form, one's own.
VOLUMES = (
    *("synthseg", "shapes", "acdc", "hippocampus", "spinalcord"),
    *("decathlon", "totalsegmentator"),
)
# Collections of sounds and pictures; "clips" are one's own.
PICTURES = (
    *("auto", "esc50-pack", "esc50", "esc10", "clips", "synthetic-calls"),
    *("omniglot", "commands", "brains"),
)
# Both were taken from one collection and share texts, but no class names.
ONE_SOURCE = {"hwu64", "liu"}
NGRAMS = "ngrams"  # the built-in encoder of texts
# What says how and where a run is used; it and more may differ in a resume.
OF_USE = (
    "eval.",
    "run.",
    "data.dir",
    "data.encoder",  # a place; what is there is checked by its stamp
    "data.download",
    "data.loader",
)
FREE = (
    "train.steps",
    "pretrain.steps",
    "pretrain.batch",
    "pretrain.rate",
    "pretrain.decay",
    "pretrain.width",
    "log.",
    *OF_USE,
)
# Part of the run's identity although they stand under a free group.
FIXED = ("run.seed",)
# What evaluation may not change: it says how a checkpoint came to be.
OF_TRAINING = (
    "run.seed",
    *(
        f"data.{name}"
        for name in "domains way shot query min_way min_shot rate window hop "
        "mels seconds top_db rows columns channels level size tokens side "
        "train validation test limit".split()
    ),
)


def default() -> ConfigDict:
    """Returns every field with its default; configs state what differs.

    It is locked: a misspelt field or a value of another type is an error.
    """
    return choose(ConfigDict(FIELDS).lock(), "htmaml")


def choose(config: ConfigDict, system: str) -> ConfigDict:
    """Fills the four slots with a row of `presets.PRESETS`."""
    if system not in PRESETS:
        close = difflib.get_close_matches(system, PRESETS, 1, 0.5)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise UserError(
            f"system {system!r} is unknown{hint}; choose from "
            f"{', '.join(PRESETS)}."
        )
    config.system = system
    for path, value in (NEUTRAL | PRESETS[system]).items():
        put(config, path, value)
    return config


def parse(
    config: ConfigDict,
    arg: str | None,
    tune: Callable[[ConfigDict], None] | None = None,
    full: Mapping[str, Any] | None = None,
) -> ConfigDict:
    """Applies the string after the colon, e.g. "system=maml,shot=5".

    Keys are full paths or `SHORTHANDS`; values must have the type of the
    field. The word "full" alone asks for the form that is meant for a GPU.

    Args:
      config: what a config file has made of the defaults.
      arg: the string.
      tune: sets what this file chooses for the system and the fields that
        were asked for. It finds them set, unless it sets them itself; then
        they win, too, but what it chose by its own value stays.
      full: fields of the form that "full" asks for, if the file has one.
    """
    pairs, large = [], {}
    for item in filter(None, items(arg or "")):
        if item == "full" and full:
            large = full
            continue
        if "=" not in item:
            raise UserError(
                f"{item!r} after the colon of --config is not name=value."
            )
        pairs.append(item.split("=", 1))
    # The last one alone: a row sets fields that another leaves as they are.
    override(config, [pair for pair in pairs if pair[0] == "system"][-1:])
    rest = [pair for pair in pairs if pair[0] != "system"]
    if tune:
        tune(override(config, rest))
    for path, value in large.items():
        put(config, path, value)
    return override(config, rest)


def items(arg: str) -> list[str]:
    """Splits "a=1,b=(2, 3)" at the commas that stand in no bracket."""
    found, depth = [""], 0
    for letter in arg:
        depth = max(0, depth + (letter in "([") - (letter in ")]"))
        if letter == "," and depth == 0:
            found.append("")
        else:
            found[-1] += letter
    return found


def override(
    config: ConfigDict, pairs: Sequence[tuple[str, str]]
) -> ConfigDict:
    """Sets fields by name from texts; a system first, as it fills slots."""
    for name, text in sorted(pairs, key=lambda pair: pair[0] != "system"):
        set_fields(config, name, text)
    return config


def set_fields(config: ConfigDict, name: str, text: str) -> None:
    """Sets one field by its path, or the fields of a shorthand."""
    for path in SHORTHANDS.get(name, (name,)):
        set_field(config, path, text)


def set_field(config: ConfigDict, path: str, text: str) -> None:
    """Sets the field at a dotted path from text, checking its type."""
    if path == "system":
        choose(config, text)
        return
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


def refuse_unknown(name: str) -> None:
    """Refuses a `data.name` that names no data, or what cannot be joined."""
    parts = name.split("+")
    alone, together = (*KINDS, *TEXTS), (*PICTURES, *VOLUMES)
    for part in parts:
        if part in together or (part in alone and len(parts) == 1):
            continue
        if part in alone:
            raise UserError(
                f"data.name={name}: {part!r} is joined with nothing; only "
                "pictures and sounds are, or volumes. Name it alone."
            )
        close = difflib.get_close_matches(part, [*alone, *together], 1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise UserError(
            f"data.name {part!r} is unknown; {hint}choose from "
            f"{', '.join((*PICTURES, *KINDS, *TEXTS, *VOLUMES))}, or several "
            "of pictures and sounds, or of volumes, with '+' between them."
        )


def form(data: Any) -> str:
    """Says what the examples of `data.name` are: functions, pictures, ..."""
    if data.name in KINDS:
        return "functions"
    if data.name.split("+")[0] in VOLUMES:
        return "volumes"
    if data.name not in TEXTS:
        return "pictures"
    if data.tokens:
        return "tokens"
    return "ngrams" if data.encoder == NGRAMS else "vectors"


def needs_domain(config: Any) -> bool:
    """Says whether a system is told the number of a task's domain."""
    return "domain" in (config.hyper.kind, config.embed.control)


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
    # Fields younger than the run had their defaults.
    old, new = identity(default()) | identity(old), identity(new)
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
    fields = flat(config)
    # How domains are joined is nothing to a run of one.
    idle = FREE if fields.get("joint.parts") else (*FREE, "joint.")
    return {
        key: _plain(value)
        for key, value in sorted(fields.items())
        if key in FIXED or not key.startswith(idle)
        if key not in without
    }


def _plain(value):
    # Tuples become lists on their way through JSON.
    if isinstance(value, (tuple, list)):
        return [_plain(v) for v in value]
    return value
