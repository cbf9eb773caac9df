"""The launchers, with fakes in place of python, srun, gcloud and the like."""

from __future__ import annotations

import json
import math
import os
import pathlib
import shutil
import signal
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


# ------------------------------------------------------------------ all of it


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


# ------------------------------------------------------------------- local.sh


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


# --------------------------------------------------------------- slurm.sbatch


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


# ------------------------------------------------------------------ tpu_vm.sh


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


# ------------------------------------------------------------------------ gke


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
