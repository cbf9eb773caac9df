"""The speed workloads: right values, counted operations, promised records."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

import cases  # noqa: E402
import growth  # noqa: E402
import memory  # noqa: E402
import parts  # noqa: E402
import speed  # noqa: E402
import workloads  # noqa: E402

SIZES = {
    "W1": {"shape": (16, 16, 1), "tasks": 2, "width": 4, "steps": 1},
    "W2": {"shape": (6,), "tasks": 2, "width": 4},
    "W3": {"shape": (4, 4, 4, 1), "width": 2, "steps": 1},
}


def tiny(name):
    return dataclasses.replace(cases.CASES[name], **SIZES[name])


@pytest.mark.parametrize("name", SIZES)
def test_weights_fit_the_network(name):
    case = tiny(name)
    inputs = workloads.batch_of(case).support.inputs[0]
    net = workloads.network(case)
    like = jax.eval_shape(net.init, jax.random.key(0), inputs)["params"]
    params = workloads.params_of(case)
    assert jax.tree.map(np.shape, params) == jax.tree.map(np.shape, like)


@pytest.mark.slow
def test_both_convolutions_agree(monkeypatch):
    monkeypatch.setattr(cases, "BLOCKS", 2)  # compiles in half the time
    found = {}
    for library in ("htmaml_jax", "jax_lax_conv"):
        iterate, sketch, facts = workloads.prepare(tiny("W1"), library, {})
        found[library] = {"loss": iterate(), "sketch": sketch()}
        assert facts["temporary_mb"] > 0
    assert np.isfinite(found["htmaml_jax"]["loss"])
    a, b = (np.array(f["sketch"]) for f in found.values())
    assert found["htmaml_jax"]["loss"] == pytest.approx(
        found["jax_lax_conv"]["loss"], rel=1e-5
    )
    assert np.linalg.norm(a - b) < 1e-4 * np.linalg.norm(a)
    assert not speed.disagreement(found)


def test_a_wrong_gradient_is_refused():
    good = {"loss": 1.0, "sketch": [1.0] * 16}
    found = {"a": good, "b": good, "c": dict(good, sketch=[1.1] * 16)}
    assert "meta-gradient of c" in speed.disagreement(found)
    found["c"] = dict(good, loss=float("nan"))
    assert "loss nan" in speed.disagreement(found)


def test_operations_by_hand():
    case = cases.Case("tiny", "mlp", (3,), 4, 2, 5, 1, 2, 3, 0.1)
    # Per example: 3 x 4 and 4 x 5 multiply-adds, 24 and 40 operations.
    # Support: 5 examples, 3 steps, 4 and 9 passes; query: 10, 2 and 3.
    support = 5 * 3 * (24 * 4 + 40 * 9)
    query = 10 * (24 * 2 + 40 * 3)
    assert cases.operations(case) == 2 * (support + query)
    first = 5 * 3 * (24 * 2 + 40 * 3) + query
    assert cases.operations(case, exact=False) == 2 * first


def test_operations_of_a_convolution():
    case = tiny("W1")
    # 16x16, 8x8, 4x4, 2x2 maps of 4 channels through 3x3 windows; a head.
    each = [2 * 9 * 4 * 256] + [2 * 9 * 16 * n for n in (64, 16, 4)]
    each.append(2 * 4 * 5)
    support = 5 * (4 * each[0] + 9 * sum(each[1:]))
    query = 25 * (2 * each[0] + 3 * sum(each[1:]))
    assert cases.operations(case) == 2 * (support + query)


@pytest.mark.slow
def test_one_command_writes_the_record(tmp_path, capsys):
    sizes = ["tasks=2", "shape=6", "width=4", "steps=1"]
    speed.main(
        ["W2", "--rounds=1", "--iterations=2", f"--out={tmp_path}"]
        + ["--libraries=htmaml_jax", "--threads=0", "--set", *sizes]
    )
    assert "| htmaml_jax |" in capsys.readouterr().out
    (path,) = tmp_path.rglob("*.json")
    assert path.name == "W2-tasks2-shape6-width4-steps1.json"
    result = json.loads(path.read_text())
    promised = {"workload", "hardware", "versions", "command", "commit"}
    assert promised < set(result)
    (run,) = result["runs"]
    assert run["library"] == "htmaml_jax"
    assert len(run["seconds"]) == len(run["compile_s"]) == 1
    assert {"peak_mb", "temporary_mb", "loss", "flops"} < set(run)


@pytest.mark.slow
def test_growth_tables(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cases, "BLOCKS", 1)
    monkeypatch.setattr("worker.use_threads", lambda count: None)
    monkeypatch.setattr("worker.set_up_jax", lambda: None)
    monkeypatch.setattr("workloads.matrix_peak", lambda: 1.0)
    growth.main(
        ["--tasks", "--steps", "1", "--width", "2", "--no-time"]
        + ["--gradients", "first", "--out", str(tmp_path)]
        + ["--set", "shape=16x16x1", "tasks=1", "width=2", "steps=1"]
    )
    assert "| width | 2 |" in capsys.readouterr().out
    (path,) = tmp_path.rglob("growth.json")
    # One size in the middle of both axes is compiled once.
    assert len(json.loads(path.read_text())["runs"]) == 1


@pytest.mark.slow
def test_memory_by_size_of_a_patch(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("worker.use_threads", lambda count: None)
    monkeypatch.setenv("XLA_FLAGS", os.environ.get("XLA_FLAGS", ""))
    monkeypatch.chdir(ROOT)
    memory.main(
        ["--sides", "8", "16", "--downs", "pool", "--gradients", "mixed"]
        + ["--out", str(tmp_path), "--set", "net.blocks=1", "inner.steps=1"]
        + ["run.lowering=lax"]
    )
    (path,) = tmp_path.glob("memory-net.blocks1-*.json")
    small, large = json.loads(path.read_text())["runs"]
    # Most buffers are of voxels, eight times as many.
    assert 4 < large["temporary_mb"] / small["temporary_mb"] < 9
    printed = capsys.readouterr().out
    assert "| patch | net.down | mixed |" in printed
    assert f"| 16³ | pool | {large['temporary_mb'] / 1024:.2f} GB |" in printed


@pytest.mark.parametrize("name", ["W1", "W3", "W4"])
def test_parts_takes_the_layers_at_their_sizes(name):
    case = cases.CASES[name]
    positions = [x.positions for x in cases.layers(case) if len(x.kernel) > 2]
    assert [int(np.prod(s)) for s in parts.spaces(case)] == positions


@pytest.mark.slow
def test_parts_times_a_layer(monkeypatch):
    monkeypatch.setattr(parts, "best", lambda f, *a: float(f(*a) is not None))
    row = parts.layer(tiny("W3"), (3, 3, 3, 1, 2), (4, 4, 4))
    assert row["gflop"] == pytest.approx(2 * 27 * 2 * 64 / 1e9)
    assert "| 3x3x3x1x2 | 4x4x4 |" in parts.table([row])


@pytest.mark.slow
def test_cost_sets_systems_beside_each_other(tmp_path):
    config = tmp_path / "tiny.py"
    config.write_text(
        "from htmaml_jax import config\n\n\n"
        "def get_config(arg=None):\n"
        "    c = config.default()\n"
        "    c.data.update(rows=8, columns=8, way=2, query=1)\n"
        "    c.net.update(width=8, blocks=1)\n"
        "    c.inner.steps = 1\n"
        "    c.outer.joint_until = 0.5  # no data say how many classes\n"
        "    c.train.tasks = 1\n"
        "    return config.parse(c, arg)\n"
    )
    command = [sys.executable, ROOT / "benchmarks/cost.py", config, "maml"]
    options = ["--rounds", "2", "--iterations", "1", "--out", tmp_path]
    done = subprocess.run(
        [*command, *options],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    (run,) = json.loads((tmp_path / "cost-tiny.json").read_text())["runs"]
    assert run["system"] == "maml" and run["temporary_mb"] > 0
    cold, warm = run["compile_s"]
    assert len(run["seconds"]) == 2 and cold > 0 and warm > 0
    assert "| maml |" in done.stdout
