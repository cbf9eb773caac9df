"""Whole runs through the door: resume, signals, refusals."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time

import chex
import jax
import numpy as np
import pytest
import tiny

from htmaml_jax import evaluate, train
from htmaml_jax.errors import UserError
from htmaml_jax.run import checkpoints, logs

STEPS = {"train.steps": 60, "log.every": 5}


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return tiny.write_clips(tmp_path_factory.mktemp("clips"))


def start(arguments, devices=1, **options):
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(devices)}
    return subprocess.Popen(
        [sys.executable, "-m", "htmaml_jax.train", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        **options,
    )


def finish(arguments, **options):
    process = start(arguments, **options)
    output, _ = process.communicate(timeout=300)
    return process.returncode, output


def wait_for_step(process, workdir, step):
    while process.poll() is None:
        lines = logs.read(workdir / "metrics.jsonl")
        if lines and lines[-1]["step"] >= step:
            return
        time.sleep(0.01)
    raise AssertionError(f"ended before step {step}: {process.stdout.read()}")


def latest(workdir):
    """Reads the newest state as it lies on disk."""
    import orbax.checkpoint as ocp

    root = workdir / "checkpoints" / "latest"
    step = max(int(p.name) for p in root.iterdir() if p.name.isdigit())
    # From however many devices it was saved, it comes to one.
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    args = ocp.args.StandardRestore(fallback_sharding=here)
    with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as reader:
        return reader.restore((root / str(step) / "state").resolve(), args=args)


@pytest.mark.slow
def test_killed_or_stopped_and_resumed_equals_never_stopped(clips, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    code, output = finish(tiny.arguments(clips, whole, **STEPS))
    assert code == 0, output
    assert f"everything lies in {whole}" in output
    assert "data: clips" in output and "compiled the training step" in output

    arguments = tiny.arguments(clips, killed, **STEPS)
    process = start(arguments)
    at = int(np.random.default_rng().integers(5, 35))
    wait_for_step(process, killed, at)
    process.kill()
    process.wait()
    process.stdout.close()

    process = start(arguments)
    wait_for_step(process, killed, at + 5)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=120)
    if process.returncode:  # else it was done before the signal came
        assert process.returncode == 128 + signal.SIGTERM
        assert "to go on: python -m htmaml_jax.train" in output
    code, output = finish(arguments)
    assert code == 0, output

    chex.assert_trees_all_equal(latest(whole), latest(killed))
    steps = [x["step"] for x in logs.read(killed / "metrics.jsonl")]
    assert steps[0] == 1 and steps[-1] == STEPS["train.steps"]
    assert len(set(steps)) == len(steps)
    values = [
        json.loads((run / "result.json").read_text())["values"]
        for run in (whole, killed)
    ]
    assert values[0] == values[1]


@pytest.fixture(scope="module")
def run(clips, tmp_path_factory):
    """A finished run of ten updates."""
    workdir = tmp_path_factory.mktemp("runs") / "run"
    train.main(tiny.arguments(clips, workdir, **{"train.steps": 10}))
    return workdir


def test_log_has_first_and_last_step_and_tensorboard(run):
    lines = logs.read(run / "metrics.jsonl")
    assert (lines[0]["step"], lines[-1]["step"]) == (1, 10)
    assert all(np.isfinite(line["train/loss"]) for line in lines)
    assert all(0 < line["train/data_share"] < 1 for line in lines)
    assert "validation/accuracy" in lines[-1]
    assert any((run / "tensorboard").iterdir())
    assert checkpoints.Checkpoints(run).info("best")["data"]["name"] == "clips"


@pytest.mark.slow
def test_the_best_is_chosen_by_what_was_learned(clips, run, tmp_path):
    """Not by steps at use alone, which a resume may leave out."""
    fields = {"train.steps": 10, "eval.finetune": 3}
    train.main(tiny.arguments(clips, tmp_path / "run", **fields))
    scores = [
        [x["validation/accuracy"] for x in lines if "validation/accuracy" in x]
        for lines in (
            logs.read(workdir / "metrics.jsonl")
            for workdir in (run, tmp_path / "run")
        )
    ]
    assert scores[0] == scores[1]
    results = [
        json.loads((workdir / "result.json").read_text())
        for workdir in (run, tmp_path / "run")
    ]
    assert results[0]["values"] != results[1]["values"]


def test_resume_refuses_another_config_and_names_the_keys(clips, run):
    fields = {"train.steps": 20, "net.width": 16, "run.seed": 3}
    with pytest.raises(UserError, match=r"net\.width: 8 -> 16.*run\.seed"):
        train.main(tiny.arguments(clips, run, **fields))


def test_resume_refuses_fewer_steps_than_done(clips, run):
    with pytest.raises(UserError, match="beyond train.steps=5"):
        train.main(tiny.arguments(clips, run, **{"train.steps": 5}))


def test_resume_refuses_other_data(run, tmp_path):
    other = tiny.write_clips(tmp_path / "other", clips=6)
    with pytest.raises(UserError, match="has other content"):
        train.main(tiny.arguments(other, run, **{"train.steps": 10}))


def test_refuses_a_folder_that_is_no_run(clips, tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(UserError, match="holds no run"):
        train.main(tiny.arguments(clips, tmp_path))
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.slow
def test_non_finite_loss_names_step_and_episodes(clips, tmp_path):
    fields = {"train.steps": 10, "inner.size": 1e30, "train.tasks": 4}
    fields["outer.joint_until"] = 0.0  # no inner step before that
    with pytest.raises(UserError, match="0 to 3.*no 'latest' checkpoint"):
        train.main(tiny.arguments(clips, tmp_path / "run", **fields))
    assert checkpoints.Checkpoints(tmp_path / "run").step("latest") is None


@pytest.mark.slow
def test_a_run_of_two_devices_goes_on_and_is_judged_on_one(clips, tmp_path):
    arguments = tiny.arguments(clips, tmp_path / "run", **{"train.steps": 4})
    code, output = finish(arguments, devices=2)
    assert code == 0 and "devices: 2 x" in output, output
    result = evaluate.evaluate(tmp_path / "run")
    told = json.loads((tmp_path / "run" / "result.json").read_text())
    np.testing.assert_allclose(result["values"], told["values"], atol=0.17)
    arguments[-1:] += ["--config.train.steps=6"]
    code, output = finish(arguments)
    assert code == 0 and "devices: 1 x" in output, output
    assert checkpoints.Checkpoints(tmp_path / "run").step("latest") == 6


@pytest.mark.slow
def test_full_disk_keeps_the_last_checkpoint(clips, tmp_path):
    """Lets no file grow beyond 20 kB while a checkpoint is written."""
    workdir = tmp_path / "run"
    arguments = tiny.arguments(clips, workdir, **{"train.steps": 4})
    code, output = finish(arguments)
    assert code == 0, output
    before = latest(workdir)
    arguments = tiny.arguments(clips, workdir, **{"train.steps": 8})

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    code, output = finish(arguments, preexec_fn=limit)
    assert code == 2, output
    assert "could not be written" in output and "Traceback" not in output
    chex.assert_trees_all_equal(before, latest(workdir))
    code, output = finish(arguments)
    assert code == 0 and "resumed" in output, output
