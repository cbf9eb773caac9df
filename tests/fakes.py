"""Fake programs in place of python, srun, gcloud and the like."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import time

import pytest

LAUNCH = pathlib.Path(__file__).resolve().parent.parent / "launch"
SCRIPTS = [LAUNCH / x for x in ("local.sh", "slurm.sbatch", "tpu_vm.sh")]
MANIFESTS = sorted((LAUNCH / "gke").glob("*.yaml"))
TRAIN = ["-m", "htmaml_jax.train"]
CONFIG = ["--config", "configs/asc.py", "--config.data.dir=my clips"]

# Every fake starts with this: it writes down that it was called and how.
PRELUDE = f"""#!{sys.executable}
import json, os, pathlib, signal, subprocess, sys, time

folder = pathlib.Path(os.environ["FAKE"])
called = [pathlib.Path(__file__).name, *sys.argv[1:]]
with open(folder / "calls", "a") as calls:
    calls.write(json.dumps(called) + "\\n")
"""

# In place of the training. It ends by itself after a minute, with status 99.
PYTHON = """
mode = os.environ.get("FAKE_MODE", "succeed")
index, count = 0, 1
if not sys.argv[-1].endswith("=auto"):
    index, count = map(int, reversed(sys.argv[-1].split(",")[1:]))
heard = []
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, frame: heard.append(number))


def write(name, value):
    part = folder / f"{name}.{index}.part"
    part.write_text(json.dumps(value))
    part.rename(folder / f"{name}.{index}")


def until(condition):
    end = time.monotonic() + 60
    while not condition():
        if time.monotonic() > end:
            write("heard", heard)
            sys.exit(99)
        time.sleep(0.02)


def gone(other):
    try:
        os.kill(json.loads((folder / f"start.{other}").read_text())["pid"], 0)
    except ProcessLookupError:
        return True


print("output of", index, flush=True)
gpus = os.environ.get("CUDA_VISIBLE_DEVICES")
write("start", {"args": sys.argv[1:], "gpus": gpus, "pid": os.getpid()})
if mode != "succeed":
    until(lambda: len(list(folder.glob("start.?"))) == count)
    if index == 1 and mode in ("fail", "deaf"):
        sys.exit(3)
    until(lambda: heard and mode != "deaf")
    if index == 0:  # saves for longer than the others, and is left in peace
        until(lambda: all(gone(other) for other in range(1, count)))
        time.sleep(0.5)
    write("heard", heard)
    sys.exit(128 + heard[0])
"""


@pytest.fixture
def fakes(tmp_path, monkeypatch):
    """Returns a function that puts a fake program first on PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (tmp_path / "fake").mkdir()
    monkeypatch.setenv("FAKE", str(tmp_path / "fake"))
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.chdir(tmp_path)

    def add(name: str, code: str = "") -> None:
        (folder / name).write_text(PRELUDE + code)
        (folder / name).chmod(0o755)

    add("python", PYTHON)
    add("nvidia-smi")  # no GPU, whatever this machine has
    return add


def read(name: str, index: int):
    """Returns what a fake process wrote down."""
    folder = pathlib.Path(os.environ["FAKE"])
    return json.loads((folder / f"{name}.{index}").read_text())


def calls(program: str) -> list[list[str]]:
    """Returns the arguments of every call of a fake program, in order."""
    path = pathlib.Path(os.environ["FAKE"]) / "calls"
    lines = path.read_text().splitlines() if path.exists() else []
    found = [json.loads(line) for line in lines]
    return [x[1:] for x in found if x[0] == program]


def run(*command) -> subprocess.CompletedProcess:
    return subprocess.run(
        [str(x) for x in command], capture_output=True, text=True
    )


def start(*command) -> subprocess.Popen:
    """Starts a launcher that leads a process group, as from a terminal."""
    return subprocess.Popen([str(x) for x in command], start_new_session=True)


def wait_for(condition) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
