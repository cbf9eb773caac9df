"""The scripts that train systems side by side, with a fake python."""

from __future__ import annotations

import fcntl
import pathlib
import shlex
import shutil
import threading

import pytest
from fakes import calls, fakes, run

from htmaml_jax import config, presets

__all__ = ["fakes"]  # pytest finds fixtures by name

BENCHMARKS = pathlib.Path(__file__).resolve().parent.parent / "benchmarks"
RULES = 'hyper.rules=(("body/.*","affine"),("head/.*","add"))'

# Leaves what the doors leave: the result of a run, and that of a judgement.
DOORS = """
words = dict(zip(sys.argv, sys.argv[1:]))
if "htmaml_jax.train" in sys.argv:
    run = pathlib.Path(words["--workdir"])
    run.mkdir(parents=True)
    (run / "result.json").write_text("{}")
else:
    run = pathlib.Path(sys.argv[3])
    *_, name, seed = run.name.split("-")
    shot = sys.argv[-1].split("=")[1]
    sets = [x for x in sys.argv if x.startswith("--config.data.name=")]
    out = pathlib.Path("results", sets[0].split("=")[1] if sets else "letters")
    out.mkdir(parents=True, exist_ok=True)
    tail = "-transductive" * any("transductive" in x for x in sys.argv)
    (out / f"{name}-5w{shot}s-{seed}{tail}.json").write_text("{}")
"""


@pytest.fixture
def compare(fakes, monkeypatch):
    """Returns a function that compares systems on "letters"."""
    fakes("python", DOORS)

    def call(*systems, **variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        done = run(BENCHMARKS / "compare.sh", "c.py:a=1", "letters", *systems)
        assert done.returncode == 0, done.stderr

    return call


def doors():
    return [x[1].removeprefix("htmaml_jax.") for x in calls("python")]


def test_what_results_hold_is_skipped(compare):
    compare("maml", "htmaml", SEEDS="0 1", SHOTS="1 5")
    once = ["train", "evaluate", "evaluate"]
    assert doors() == once * 4
    compare("maml", "htmaml")
    assert doors() == once * 4
    # One judgement that is missing does not train anything again.
    pathlib.Path("results/letters/maml-5w5s-s1.json").unlink()
    compare("maml", "htmaml")
    assert doors() == once * 4 + ["evaluate"]


def test_one_training_is_judged_on_several_sets(compare):
    compare("maml", SEEDS="0", SHOTS="1 5", SETS="hearts=hearts brains=brains")
    assert doors() == ["train", *["evaluate"] * 4]
    found = sorted(map(str, pathlib.Path("results").glob("*/*.json")))
    assert found == [
        f"results/{part}/maml-5w{shot}s-s0.json"
        for part in ("brains", "hearts")
        for shot in (1, 5)
    ]
    compare("maml")
    assert len(doors()) == 5


def test_what_is_tuned_afterwards_has_its_own_name(compare):
    compare("maml", "maml+wide:a=2", SEEDS="0", SHOTS="1")
    judge = "--config.eval.finetune=50"
    compare("maml", "maml+wide:a=2", JUDGE=judge)
    # Trained once; judged again, and named so that both stay.
    assert doors() == ["train", "evaluate"] * 2 + ["evaluate"] * 2
    marks = [x[x.index("--variant") + 1] for x in calls("python")[-2:]]
    assert marks == ["tuned50", "wide+tuned50"]
    bent = f"{judge} --config.eval.finetune_bend=0.15"
    compare("maml", JUDGE=bent)
    (judged,) = calls("python")[-1:]
    assert judged[judged.index("--variant") + 1] == "tuned50+bent0.15"
    compare("maml+wide:a=2", JUDGE=f"--config.eval.strength=0.5 {judge}")
    (judged,) = calls("python")[-1:]
    name = "wide+strength0.5+tuned50"
    assert judged[judged.index("--variant") + 1] == name


def test_changes_reach_training_whole(compare):
    compare(f"htmaml+film:{RULES}", SEEDS="3", SHOTS="1")
    train, judge = calls("python")
    assert train[-1] == f"c.py:a=1,system=htmaml,seed=3,{RULES}"
    # Test tasks are met by the judgement alone.
    assert "--config.eval.split=validation" in train
    assert "--config.eval.split=test" in judge
    assert judge[judge.index("--variant") + 1] == "film"


def test_a_run_may_be_judged_in_other_ways(compare):
    compare("maml", SEEDS="0", SHOTS="1")
    # What is judged in another way has another name in results.
    compare("maml", SHOTS="5", JUDGE="--config.a=1 --config.b=2")
    assert doors() == ["train", "evaluate", "evaluate"]
    judge = calls("python")[-1]
    assert judge[2] == "runs/letters-maml-s0"
    assert judge[3:5] == ["--config.a=1", "--config.b=2"]
    # Results that saw all queries have files of their own.
    for _ in range(2):
        compare("maml", JUDGE="--config.eval.transductive=True")
    assert doors()[3:] == ["evaluate"]


def test_what_another_copy_is_training_is_left_to_it(compare, tmp_path):
    (tmp_path / "runs").mkdir()
    with open(tmp_path / "runs/letters-maml-s0.lock", "w") as taken:
        fcntl.flock(taken, fcntl.LOCK_EX)
        compare("maml", "anil", SEEDS="0", SHOTS="1")
    assert [x[-1] for x in calls("python") if "htmaml_jax.train" in x] == [
        "c.py:a=1,system=anil,seed=0"
    ]


def trained():
    return [x[-1] for x in calls("python") if "htmaml_jax.train" in x]


def test_all_may_begin_from_one_network_a_seed(compare):
    more = {"SHOTS": "1 5", "START": "first:b=2"}
    compare("maml", "anil", SEEDS="0 1", **more)
    assert trained() == [
        line
        for seed in (0, 1)
        for line in (
            f"c.py:a=1,system=first,seed={seed},b=2",
            *(
                f"c.py:a=1,system={system},seed={seed},"
                f"net.pretrained=runs/letters-first-s{seed}"
                for system in ("maml", "anil")
            ),
        )
    ]
    # What results hold needs no start, wherever that has gone.
    shutil.rmtree("runs")
    compare("maml", "anil", **more)
    assert len(trained()) == 6


def test_a_start_that_another_copy_is_training_is_waited_for(compare, tmp_path):
    (tmp_path / "runs").mkdir()
    with open(tmp_path / "runs/letters-first-s0.lock", "w") as taken:
        fcntl.flock(taken, fcntl.LOCK_EX)
        ends = threading.Timer(2.0, fcntl.flock, (taken, fcntl.LOCK_UN))
        ends.start()
        compare("maml", SEEDS="0", SHOTS="1", START="first")
        assert not ends.is_alive()
    assert doors() == ["train", "train", "evaluate"]


def test_without_its_start_nothing_is_trained(compare, fakes):
    fakes("python", "sys.exit(3)")
    with pytest.raises(AssertionError):
        compare("maml", SEEDS="0", SHOTS="1", START="first")
    assert trained() == ["c.py:a=1,system=first,seed=0"]


@pytest.mark.parametrize("script", sorted(BENCHMARKS.glob("*.sh")))
def test_scripts_can_be_read(script):
    assert run("bash", "-n", script).returncode == 0


def test_every_system_is_compared_in_fields_that_exist():
    text = (BENCHMARKS / "systems.sh").read_text()
    met = set()
    for word in shlex.split(text.replace("\\\n", " "), comments=True):
        name, _, change = word.partition(":")
        system = name.split("+")[0]
        if system in presets.PRESETS:
            chosen = config.parse(config.default(), f"system={system},{change}")
            assert chosen.system == system
            met.add(system)
    # Of the rest, two need classes with names, and one joint classes.
    assert set(presets.PRESETS) - met == {"xmaml", "hatemaml", "prototype"}


def test_hate_speech_is_judged_in_every_language(fakes, monkeypatch):
    fakes("python", "")
    monkeypatch.setenv("SUPPORTS", "train own")
    done = run(BENCHMARKS / "hate.sh", "xmaml")
    assert done.returncode == 0, done.stderr
    train, *judged = calls("python")
    assert train[-1] == "configs/hate.py:system=xmaml,seed=0"
    assert "--config.eval.domain=hate-fr" in train
    zero = [x for x in judged if x[-1] == "--config.eval.support=train"]
    # HateCheck has nothing that could be support.
    assert len(zero) == 6 and len(judged) == 8
    assert all("--config.eval.split=test" in x for x in judged)


def test_a_variant_on_hate_speech_bears_its_name(fakes, monkeypatch):
    fakes("python", "")
    monkeypatch.setenv("SUPPORTS", "own")
    spec = "hatemaml+near:hyper.head=prototype"
    assert run(BENCHMARKS / "hate.sh", spec).returncode == 0
    train, *judged = calls("python")
    wanted = "configs/hate.py:system=hatemaml,seed=0,hyper.head=prototype"
    assert train[-1] == wanted
    assert len(judged) == 2
    assert all(x[x.index("--variant") + 1] == "near" for x in judged)
