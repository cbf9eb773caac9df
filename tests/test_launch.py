"""The launchers of one machine, with fakes in place of what they call."""

from __future__ import annotations

import os
import shutil
import signal

import pytest
from fakes import (
    CONFIG,
    LAUNCH,
    MANIFESTS,
    SCRIPTS,
    TRAIN,
    calls,
    fakes,
    read,
    run,
    start,
    wait_for,
)

__all__ = ["fakes"]  # pytest finds fixtures by name


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda x: x.name)
def test_scripts_are_sound(script):
    assert run("bash", "-n", script).returncode == 0
    if script.suffix == ".sh":
        assert os.access(script, os.X_OK)
    if shutil.which("shellcheck"):
        found = run("shellcheck", script)
        assert not found.returncode, found.stdout


def test_every_launcher_runs_the_train_door():
    files = {x for x in LAUNCH.rglob("*") if x.is_file()}
    assert files == {*SCRIPTS, *MANIFESTS}
    assert {x.name for x in MANIFESTS} == {"gpu.yaml", "tpu7x.yaml"}
    for path in files:
        text = path.read_text()
        assert "python -m htmaml_jax.train" in text, path
        assert max(map(len, text.splitlines())) <= 80, path
        if path.name != "local.sh":
            assert "Not run by us" in text, path
            assert "--distributed=auto" in text, path


def test_local_starts_n_processes(fakes, tmp_path):
    done = run(LAUNCH / "local.sh", 3, *CONFIG)
    assert done.returncode == 0
    args = [read("start", i)["args"] for i in range(3)]
    port = args[0][-1].removeprefix("--distributed=127.0.0.1:").split(",")[0]
    assert 1024 < int(port) < 65536
    assert args == [
        [*TRAIN, *CONFIG, f"--distributed=127.0.0.1:{port},3,{i}"]
        for i in range(3)
    ]
    assert len(calls("python")) == 3
    assert done.stdout == "output of 0\n"
    for i in (1, 2):
        log = tmp_path / f"launch-{i}.log"
        assert log.read_text() == f"output of {i}\n"


@pytest.mark.parametrize("count", ["", "0", "--config"])
def test_local_needs_a_number(fakes, count):
    done = run(LAUNCH / "local.sh", count, *CONFIG)
    assert done.returncode == 2 and "usage" in done.stderr
    assert not calls("python")


def test_local_stops_the_rest_when_one_fails(fakes, monkeypatch):
    monkeypatch.setenv("FAKE_MODE", "fail")
    done = run(LAUNCH / "local.sh", 3, *CONFIG)
    assert done.returncode == 3
    assert "process 1 ended with status 3" in done.stderr
    assert "output of 1" in done.stderr
    # Once: at a second signal the training would stop without saving.
    assert read("heard", 0) == read("heard", 2) == [signal.SIGTERM]


def test_local_kills_who_does_not_stop(fakes, monkeypatch, tmp_path):
    monkeypatch.setenv("FAKE_MODE", "deaf")
    monkeypatch.setenv("GRACE", "0")
    done = run(LAUNCH / "local.sh", 3, *CONFIG)
    assert done.returncode == 3
    assert "killing what did not stop" in done.stderr
    assert "Killed" not in done.stderr  # what bash would say
    # They did not come to their own end, and are gone.
    assert not list((tmp_path / "fake").glob("heard.*"))
    for i in (0, 2):
        with pytest.raises(ProcessLookupError):
            os.kill(read("start", i)["pid"], 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_local_passes_signals_on(fakes, monkeypatch, tmp_path, number):
    monkeypatch.setenv("FAKE_MODE", "wait")
    process = start(LAUNCH / "local.sh", 3, *CONFIG)
    wait_for(lambda: len(list((tmp_path / "fake").glob("start.?"))) == 3)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # what a terminal does at Ctrl-C
    else:
        process.send_signal(number)
    assert process.wait() == 128 + number
    assert [read("heard", i) for i in range(3)] == [[number]] * 3


@pytest.mark.parametrize(
    "there, given, count, expected",
    [
        (2, None, 2, ["0", "1"]),
        (3, None, 2, ["0", "1"]),
        (1, None, 2, [None, None]),
        (0, None, 2, [None, None]),
        (2, "5,7", 2, ["5", "7"]),
        (2, "", 2, ["", ""]),
    ],
)
def test_local_gives_each_process_a_gpu(
    fakes, monkeypatch, there, given, count, expected
):
    fakes(
        "nvidia-smi",
        f"for i in range({there}): print(f'GPU {{i}}: H100 (UUID: GPU-{{i}})')",
    )
    if given is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    done = run(LAUNCH / "local.sh", count, *CONFIG)
    assert done.returncode == 0
    assert [read("start", i)["gpus"] for i in range(count)] == expected
    assert ("GPUs to share" in done.stderr) == (0 < there < count)
