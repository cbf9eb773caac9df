"""The launchers of clusters and clouds, with fakes of what they call."""

from __future__ import annotations

import math
import pathlib
import shutil
import signal

import pytest
from fakes import (
    CONFIG,
    LAUNCH,
    MANIFESTS,
    TRAIN,
    calls,
    fakes,
    read,
    run,
    start,
    wait_for,
)

__all__ = ["fakes"]  # pytest finds fixtures by name

GCLOUD = """
words = ("list", "create", "describe", "ssh", "scp", "delete", "rsync")
word = next(x for x in words if x in sys.argv)
command = " ".join(x for x in sys.argv if x.startswith("--command="))
command = command.removeprefix("--command=")
if word == os.environ.get("FAKE_BROKEN"):
    sys.exit(5)
if word == "list":
    print(os.environ.get("FAKE_TPUS", ""))
if word == "describe":
    print(os.environ.get("FAKE_WORKERS", "10.0.0.1"))
if "htmaml_jax.train" in command or "kill" in command:
    sys.exit(subprocess.call(["bash", "-c", command], cwd=folder / "worker"))
"""


@pytest.mark.parametrize(
    "status, state, restarts, requeued",
    [
        (0, "RUNNING", 0, False),
        (1, "RUNNING", 0, False),
        (143, "RUNNING", 0, True),
        (143, "COMPLETING", 0, False),
        (143, "RUNNING", 50, False),
    ],
)
def test_slurm_queues_again_after_sigterm(
    fakes, monkeypatch, status, state, restarts, requeued
):
    fakes("srun", f"sys.exit({status})")
    fakes("squeue", f"print({state!r})")
    fakes("scontrol")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_RESTART_COUNT", str(restarts))
    done = run("bash", LAUNCH / "slurm.sbatch", *CONFIG)
    assert done.returncode == status
    command = ["python", *TRAIN, *CONFIG, "--distributed=auto"]
    assert calls("srun") == [["--kill-on-bad-exit=0", *command]]
    assert calls("scontrol") == ([["requeue", "7"]] if requeued else [])


def test_slurm_asks_for_a_task_per_gpu_and_a_signal():
    lines = (LAUNCH / "slurm.sbatch").read_text().splitlines()
    # sbatch reads no further than the first command.
    first = next(i for i, x in enumerate(lines) if x and x[0] != "#")
    asked = [x.split() for x in lines[:first] if x.startswith("#SBATCH")]
    assert all(len(x) == 2 for x in asked)
    options = dict(x[1].removeprefix("--").partition("=")[::2] for x in asked)
    assert options["gpus-per-node"] == options["ntasks-per-node"]
    assert "gpus-per-task" not in options
    assert options["signal"] == "TERM@120"
    assert "requeue" in options


@pytest.fixture
def tpu_vm(fakes, monkeypatch, tmp_path):
    """Returns a copy of tpu_vm.sh in a small project, before a fake cloud."""
    fakes("gcloud", GCLOUD)
    (tmp_path / "fake" / "worker" / "source").mkdir(parents=True)
    (tmp_path / "fake" / "worker" / "venv" / "bin").mkdir(parents=True)
    (tmp_path / "fake" / "worker" / "venv" / "bin" / "activate").touch()
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setenv("ZONE", "a-zone")
    script = tmp_path / "project" / "launch" / "tpu_vm.sh"
    script.parent.mkdir(parents=True)
    return shutil.copy(LAUNCH / "tpu_vm.sh", script)


def words() -> list[str]:
    """Returns what was asked of gcloud, one word each."""
    found = calls("gcloud")
    assert all("--zone=a-zone" in x for x in found if x[0] == "compute")
    return [x[3] if x[0] == "compute" else x[1] for x in found]


START = ["list", "create", "describe", "scp", "ssh"]


@pytest.mark.parametrize(
    "workdir, flag, fetch",
    [
        ("gs://bucket/run/", "--workdir=gs://bucket/run", "rsync"),
        ("my run", "--workdir=../my run", "scp"),
    ],
)
def test_tpu_vm_trains_fetches_and_deletes(
    tpu_vm, monkeypatch, tmp_path, workdir, flag, fetch
):
    monkeypatch.setenv("WORKDIR", workdir)
    done = run(tpu_vm, *CONFIG)
    assert done.returncode == 0 and done.stdout == "output of 0\n"
    assert words() == [*START, "ssh", fetch, "delete"]
    assert read("start", 0)["args"] == [
        *TRAIN,
        flag,
        *CONFIG,
        "--distributed=auto",
    ]
    asked = calls("gcloud")
    assert "--worker=all" in asked[-3]
    assert {"--accelerator-type=v6e-8", "--version=v2-alpha-tpuv6e"} < {
        *asked[1]
    }
    if fetch == "rsync":
        assert asked[-2][-2:] == ["gs://bucket/run", "runs/run"]
    else:
        assert {"htmaml:my run", "runs", "--worker=0"} < {*asked[-2]}
    assert not list((tmp_path / "temporary").iterdir())


@pytest.mark.parametrize(
    "broken, expected",
    [
        ("create", ["list", "create", "delete"]),
        ("scp", ["list", "create", "describe", "scp", "delete"]),
        ("ssh", [*START, "delete"]),
        ("rsync", [*START, "ssh", "rsync", "delete"]),
        ("list", ["list"]),
    ],
)
def test_tpu_vm_deletes_whatever_breaks(tpu_vm, monkeypatch, broken, expected):
    monkeypatch.setenv("WORKDIR", "gs://bucket/run")
    monkeypatch.setenv("FAKE_BROKEN", broken)
    done = run(tpu_vm, *CONFIG)
    assert done.returncode == (0 if broken == "rsync" else 1)
    assert words() == expected


def test_tpu_vm_says_what_it_leaves(tpu_vm, monkeypatch):
    monkeypatch.setenv("WORKDIR", "gs://bucket/run")
    monkeypatch.setenv("KEEP", "1")
    done = run(tpu_vm, *CONFIG)
    assert words() == [*START, "ssh", "rsync"]
    assert "tpu-vm delete htmaml --zone=a-zone" in done.stderr
    monkeypatch.setenv("KEEP", "0")
    monkeypatch.setenv("FAKE_BROKEN", "delete")
    done = run(tpu_vm, *CONFIG)
    assert words()[-1] == "delete"
    assert "tpu-vm delete htmaml --zone=a-zone" in done.stderr


def test_tpu_vm_leaves_a_tpu_that_was_there(tpu_vm, monkeypatch):
    monkeypatch.setenv("WORKDIR", "gs://bucket/run")
    monkeypatch.setenv("FAKE_TPUS", "other\nprojects/p/nodes/htmaml")
    assert run(tpu_vm, *CONFIG).returncode == 0
    assert "create" not in words() and "delete" not in words()
    monkeypatch.setenv("FAKE_TPUS", "htmaml-2\nmy-htmaml")
    assert run(tpu_vm, *CONFIG).returncode == 0
    assert "create" in words() and "delete" in words()


def test_tpu_vm_wants_a_bucket_for_several_workers(tpu_vm, monkeypatch):
    monkeypatch.setenv("FAKE_WORKERS", "10.0.0.1;10.0.0.2")
    done = run(tpu_vm, *CONFIG)
    assert done.returncode == 2 and "gs://" in done.stderr
    assert words() == ["list", "create", "describe", "delete"]
    assert not calls("python")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_tpu_vm_lets_a_run_save_when_stopped(
    tpu_vm, monkeypatch, tmp_path, number
):
    monkeypatch.setenv("WORKDIR", "gs://bucket/run")
    monkeypatch.setenv("FAKE_MODE", "wait")
    process = start(tpu_vm, *CONFIG)
    wait_for((tmp_path / "fake" / "start.0").exists)
    process.send_signal(number)
    assert process.wait() == 128 + number
    assert read("heard", 0) == [signal.SIGTERM]
    assert words() == [*START, "ssh", "ssh", "rsync", "delete"]


def documents(path: pathlib.Path) -> dict[str, dict]:
    """Returns the documents of a manifest by kind."""
    yaml = pytest.importorskip("yaml")
    return {x["kind"]: x for x in yaml.safe_load_all(path.read_text())}


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda x: x.stem)
def test_jobset(path):
    jobset = documents(path)["JobSet"]
    assert jobset["apiVersion"] == "jobset.x-k8s.io/v1alpha2"
    assert jobset["spec"]["failurePolicy"]["maxRestarts"] > 0
    (job,) = jobset["spec"]["replicatedJobs"]
    spec = job["template"]["spec"]
    assert job["replicas"] == 1
    # A lost pod restarts all, through the JobSet, and never itself alone.
    assert spec["backoffLimit"] == 0
    assert spec["parallelism"] == spec["completions"] > 1
    pod = spec["template"]["spec"]
    assert pod["restartPolicy"] == "Never"
    assert pod["terminationGracePeriodSeconds"] >= 60
    (container,) = pod["containers"]
    assert container["command"] == ["bash", "-c"]
    (command,) = container["args"]
    assert command.split()[:4] == ["exec", "python", *TRAIN]
    assert command.split()[-1] == "--distributed=auto"
    flags = dict(x.split("=") for x in command.split() if "=" in x)
    assert flags["--workdir"].startswith("gs://")
    (amount,) = container["resources"]["limits"].values()
    devices = amount * spec["parallelism"]
    if path.stem == "tpu7x":
        topology = pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"]
        assert math.prod(map(int, topology.split("x"))) == devices
        devices *= 2
    assert int(flags["--config.train.tasks"]) % devices == 0


def test_jobset_names_its_devices():
    (tpu, gpu) = (
        documents(LAUNCH / "gke" / f"{x}.yaml")["JobSet"]["spec"][
            "replicatedJobs"
        ][0]["template"]["spec"]["template"]["spec"]
        for x in ("tpu7x", "gpu")
    )
    selector = tpu["nodeSelector"]
    assert selector["cloud.google.com/gke-tpu-accelerator"] == "tpu7x"
    assert tpu["containers"][0]["resources"]["limits"] == {"google.com/tpu": 4}
    assert "cloud.google.com/gke-accelerator" in gpu["nodeSelector"]
    assert [*gpu["containers"][0]["resources"]["limits"]] == ["nvidia.com/gpu"]


def test_gpu_pods_may_look_each_other_up():
    found = documents(LAUNCH / "gke" / "gpu.yaml")
    name = found["ServiceAccount"]["metadata"]["name"]
    (job,) = found["JobSet"]["spec"]["replicatedJobs"]
    pod = job["template"]["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] == name
    binding = found["RoleBinding"]
    assert [x["name"] for x in binding["subjects"]] == [name]
    assert binding["roleRef"]["name"] == found["Role"]["metadata"]["name"]
    allowed = {
        (resource, verb)
        for rule in found["Role"]["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert {("pods", "list"), ("jobs", "get")} <= allowed
