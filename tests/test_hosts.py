"""Several processes as one run, on the loopback interface."""

from __future__ import annotations

import json
import signal
import socket

import numpy as np
import pytest
import tiny
from test_train import start, wait_for_step

from htmaml_jax.errors import UserError
from htmaml_jax.run import hosts, logs

FIELDS = {"train.steps": 20, "train.tasks": 4, "log.every": 1}


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return tiny.write_clips(tmp_path_factory.mktemp("clips"))


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def together(arguments, count=2):
    """Starts the processes of one run."""
    address = f"127.0.0.1:{free_port()}"
    return [
        start([*arguments, f"--distributed={address},{count},{i}"])
        for i in range(count)
    ]


def ended(processes):
    """Waits for all; returns exit codes and what each said."""
    outputs = [p.communicate(timeout=300)[0] for p in processes]
    return [p.returncode for p in processes], outputs


def losses(run):
    lines = logs.read(run / "metrics.jsonl")
    assert [x["step"] for x in lines] == list(range(1, 21))
    return np.array([x["train/loss"] for x in lines])


@pytest.mark.slow
def test_two_processes_equal_one_also_after_a_stop(clips, tmp_path):
    """Stops two of them, goes on with one, and compares with one."""
    alone, pair, mixed = (tmp_path / x for x in ("alone", "pair", "mixed"))
    codes, outputs = ended([start(tiny.arguments(clips, alone, **FIELDS))])
    assert codes == [0], outputs
    codes, outputs = ended(together(tiny.arguments(clips, pair, **FIELDS)))
    assert codes == [0, 0], outputs
    assert "devices: 2 x" in outputs[0]
    assert "everything lies in" not in outputs[1]
    np.testing.assert_allclose(losses(pair), losses(alone), atol=1e-4)
    values = [
        json.loads((run / "result.json").read_text())["values"]
        for run in (alone, pair)
    ]
    # Task by task: what two judge comes together in its order.
    assert np.abs(np.subtract(*values)).mean() < 0.02 < np.std(values[0])

    arguments = tiny.arguments(clips, mixed, **FIELDS)
    processes = together(arguments)
    wait_for_step(processes[0], mixed, 5)
    # The one that writes nothing is told; all stop after the same update.
    processes[1].send_signal(signal.SIGTERM)
    codes, outputs = ended(processes)
    assert codes == [128 + signal.SIGTERM] * 2, outputs
    assert "and saved; to go on" in outputs[0]
    codes, outputs = ended([start(arguments)])
    assert codes == [0] and "resumed" in outputs[0], outputs
    np.testing.assert_allclose(losses(mixed), losses(alone), atol=1e-4)


def test_tasks_that_leave_a_device_idle_are_refused(clips, tmp_path):
    fields = FIELDS | {"train.tasks": 3}
    codes, outputs = ended(
        together(tiny.arguments(clips, tmp_path / "run", **fields))
    )
    assert codes == [2, 2], outputs
    assert "need a multiple of 2 tasks, not 3" in outputs[0]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "how", ["yes", "host:1,2", "host,2,0", "host:1,2,2", "host:x,2,0"]
)
def test_other_forms_are_refused(how):
    with pytest.raises(UserError, match="HOST:PORT,COUNT,INDEX"):
        hosts.join(how)
