"""What the doors share: reading a command line, ending with a sentence."""

from __future__ import annotations

import argparse
import importlib.util
import pathlib
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib import metadata

from ml_collections import ConfigDict

from htmaml_jax import config as configs
from htmaml_jax import limits
from htmaml_jax.errors import UserError

_PREFIX = "--config."


def door(
    main: Callable[[Sequence[str]], None],
    interrupted: str = "nothing was written",
) -> None:
    """Runs a door; what a person can mend becomes one line, exit code 2.

    Args:
      main: takes the arguments.
      interrupted: what is so after Ctrl-C.
    """
    # Logs of a run in the background are read while it runs.
    sys.stdout.reconfigure(line_buffering=True)
    try:
        main(sys.argv[1:])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except OSError as error:
        # A disk, a permission, a pipe: nothing that a traceback explains.
        name = f" ({error.filename})" if error.filename else ""
        print(
            f"error: {error.strerror or error}{name}; correct this, then "
            "run the same command again.",
            file=sys.stderr,
        )
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print(f"interrupted; {interrupted}.", file=sys.stderr)
        raise SystemExit(130) from None


def parse(
    parser: argparse.ArgumentParser, argv: Sequence[str]
) -> tuple[argparse.Namespace, list[tuple[str, str]]]:
    """Parses flags and the overrides --config.NAME=VALUE.

    Returns:
      The flags, and pairs (name, text).
    """
    overrides, rest = [], []
    for arg in argv:
        if arg.startswith(_PREFIX):
            name, equals, text = arg.removeprefix(_PREFIX).partition("=")
            if not equals:
                raise UserError(f"{arg} needs a value: {arg}=VALUE.")
            overrides.append((name, text))
        else:
            rest.append(arg)
    return parser.parse_args(rest), overrides


def read_config(
    argument: str, overrides: Sequence[tuple[str, str]]
) -> tuple[ConfigDict, str]:
    """Loads `path.py` or `path.py:name=value,...` and applies overrides.

    Returns:
      The locked config, and the name of its file without ".py".
    """
    text, _, arg = argument.partition(".py:")
    path = pathlib.Path(text if text.endswith(".py") else f"{text}.py")
    if not path.is_file():
        raise UserError(
            f"config {path} does not exist; --config takes a file such as "
            "configs/asc.py, and after a colon name=value,..."
        )
    spec = importlib.util.spec_from_file_location("config_file", path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        # A system is for the file to know: it may tune what it is given.
        chosen = [f"system={v}" for name, v in overrides if name == "system"]
        config = module.get_config(",".join(filter(None, [arg, *chosen])))
        if (
            configs.flat(config).keys()
            != configs.flat(configs.default()).keys()
        ):
            raise ValueError("other fields than config.default() has")
    except UserError:
        raise
    except Exception as error:  # the file is code: anything may come
        reason = " ".join(str(error).split())
        raise UserError(
            f"config {path} is not a config ({type(error).__name__}: "
            f"{reason}); it must define get_config(arg), as configs/asc.py "
            "does."
        ) from error
    configs.override(config, [x for x in overrides if x[0] != "system"])
    limits.check(config)
    return config, path.stem


def restore_config(
    fields: dict, overrides: Sequence[tuple[str, str]] = ()
) -> ConfigDict:
    """Rebuilds a config from a checkpoint's JSON.

    What describes the training stays; what describes the judging, the
    machine and the place of the data can be overridden. Fields younger than
    the checkpoint get their defaults.
    """
    config = configs.choose(configs.default(), fields["system"])
    known = configs.flat(config)
    stored = configs.flat(fields)
    if not stored.get("joint.parts"):
        # How domains are joined was nothing to a run of one.
        stored = {k: x for k, x in stored.items() if not k.startswith("joint.")}
    for path, value in stored.items():
        if path in known:
            configs.put(config, path, value)
        elif not path.startswith(("run.", "log.")):
            raise UserError(
                f"the checkpoint has a config field unknown here, {path!r}; "
                "use the version that wrote it."
            )
    config.lock()
    for name, _ in overrides:
        free = name.startswith(("eval.", "run.", "data."))
        if not free or name in configs.OF_TRAINING:
            raise UserError(
                f"{name} belongs to training and cannot be changed "
                "afterwards; eval.*, run.* and the choice of data can."
            )
    configs.override(config, overrides)
    limits.check(config)
    return config


def command(module: str) -> str:
    """Returns the command line that is running."""
    return shlex.join(["python", "-m", f"htmaml_jax.{module}", *sys.argv[1:]])


def commit() -> str:
    """Returns the commit of the source tree, or "unknown".

    With "-dirty" where code differs from it. Results and pages do not count:
    a first result would else soil the second.
    """
    root = pathlib.Path(__file__).parent.parent
    code = ("htmaml_jax", "configs", "benchmarks")

    def git(*words):
        return subprocess.run(
            ["git", "-C", root, *words],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout.strip()

    try:
        name = git("rev-parse", "--short=12", "HEAD")
        changed = git("status", "--porcelain", "-uno", "--", *code)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return f"{name}-dirty" if changed else name


def versions() -> dict[str, str]:
    """Returns the versions that a number depends on."""
    names = ("htmaml_jax", "jax", "jaxlib", "flax", "optax", "numpy")
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def word(text: str) -> str:
    """Takes an option that becomes the name of a folder."""
    return _made_of(r"[\w+-]+", text, "letters, digits, -, + and _")


def variant(text: str) -> str:
    """Takes an option that becomes part of a file's name, or nothing."""
    return _made_of(r"[\w+.-]*", text, "letters, digits, -, +, _ and .")


def _made_of(pattern, text, allowed):
    if not re.fullmatch(pattern, text):
        raise argparse.ArgumentTypeError(f"{text!r} must be of {allowed}")
    return text


def named(argument: str, overrides: Sequence[tuple[str, str]]) -> list[str]:
    """Lists the paths of fields, but the system, that a command line sets."""
    told = configs.items(argument.partition(".py:")[2])
    names = [item.partition("=")[0] for item in told]
    names += [name for name, _ in overrides]
    shorts = configs.SHORTHANDS
    paths = [path for name in names for path in shorts.get(name, (name,))]
    return [path for path in paths if path != "system"]
