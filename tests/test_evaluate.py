"""Evaluation: repeatable, from both sources, paired, in the agreed form."""

from __future__ import annotations

import json

import jax
import numpy as np
import pytest
import tiny

from htmaml_jax import adapt, evaluate, results, train
from htmaml_jax.errors import UserError
from htmaml_jax.run import checkpoints, step, workdir


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs of maml and htmaml on a folder of tones."""
    root = tmp_path_factory.mktemp("runs")
    clips = tiny.write_clips(root / "clips")
    for system in ("maml", "htmaml"):
        fields = {"system": system, "train.steps": 4, "inner.steps": 1}
        # Both compile sooner so.
        fields |= {"outer.joint_until": 0.0, "hyper.trunk": "mlp"}
        train.main(tiny.arguments(clips, root / system, **fields))
    return root


def test_same_values_twice_and_from_both_sources(runs):
    first = evaluate.evaluate(runs / "htmaml")
    again = evaluate.evaluate(runs / "htmaml")
    hosted = evaluate.evaluate(
        runs / "htmaml", overrides=[("data.loader", "tfdata")]
    )
    assert first["values"] == again["values"] == hosted["values"]
    assert len(set(first["values"])) > 2


def test_tasks_at_a_time_are_what_was_asked_for(runs, monkeypatch):
    """The largest number that divides the forty of a block."""
    plain, taken = step.make_eval_step, []

    def spy(learner, episodes, mesh, chunk, *more):
        taken.append(chunk)
        return plain(learner, episodes, mesh, chunk, *more)

    monkeypatch.setattr(step, "make_eval_step", spy)
    found = [
        evaluate.evaluate(runs / "maml", overrides=[("run.chunk", chunk)])
        for chunk in ("0", "7")
    ]
    assert taken == [1, 5]
    np.testing.assert_allclose(*[x["values"] for x in found], atol=0.2)
    assert found[0]["mean"] == pytest.approx(found[1]["mean"], abs=0.01)


def test_other_episodes_differ_and_are_not_compared(runs):
    first = evaluate.evaluate(runs / "maml")
    other = evaluate.evaluate(runs / "maml", overrides=[("eval.seed", "1")])
    assert first["values"] != other["values"]
    assert first["episodes_id"] != other["episodes_id"]
    assert "different episodes" in results.compare(
        ("a", [first]), ("b", [other])
    )


def test_door_writes_results_and_paired_differences(runs, tmp_path, capsys):
    out = tmp_path / "results"
    evaluate.main(
        [
            str(runs / "maml"),
            str(runs / "htmaml"),
            "--config.eval.shot=2",
            f"--out={out}",
        ]
    )
    said = capsys.readouterr().out
    assert "htmaml minus maml" in said and "paired" in said
    path = out / "clips" / "htmaml-3w2s-s0.json"
    found = json.loads(path.read_text())
    wanted = (
        "benchmark system variant seed split way shot query metric inductive "
        "episodes values mean ci95 episodes_id data train config command "
        "commit versions"
    )
    assert set(wanted.split()) <= set(found)
    assert {"name", "fingerprint", "licence"} <= set(found["data"])
    values = np.array(found["values"])
    assert len(values) == found["episodes"] == 60
    assert found["mean"] == pytest.approx(values.mean(), abs=1e-4)
    half = 2.001 * values.std(ddof=1) / np.sqrt(60)
    assert found["ci95"] == pytest.approx(half, abs=1e-4)
    assert found["train"]["parameters"]["hyper"] > 0


def test_a_result_says_how_much_of_the_transform_it_used(runs):
    part = [("eval.episodes", "4"), ("eval.strength", "0.25")]
    found = evaluate.evaluate(runs / "htmaml", overrides=part)
    assert found["variant"] == "strength0.25"
    with pytest.raises(UserError, match=r"eval\.strength"):
        evaluate.evaluate(runs / "maml", overrides=part)


def test_a_result_may_have_a_table_of_its_own(runs, tmp_path, capsys):
    common = [str(runs / "maml"), f"--out={tmp_path}"]
    evaluate.main([*common, "--benchmark=mine", "--variant=half"])
    (path,) = tmp_path.glob("*/*.json")
    assert path == tmp_path / "mine" / "maml+half-3w1s-s0.json"
    assert json.loads(path.read_text())["benchmark"] == "mine"
    with pytest.raises(SystemExit):
        evaluate.main([*common, "--benchmark=../mine"])
    assert "'../mine' must be of letters" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        evaluate.main([*common, "--variant=a/b"])
    assert "'a/b' must be of letters" in capsys.readouterr().err
    # What is no test is no row, nor in the way of one.
    evaluate.main([*common, "--config.eval.split=validation"])
    assert (tmp_path / "clips" / "maml-3w1s-s0-validation.json").is_file()
    assert results.read_all(tmp_path) == [json.loads(path.read_text())]


def test_clips_are_as_long_as_in_training(runs, monkeypatch):
    """Spoken words have a second of their own, whatever the config says."""
    info = checkpoints.Checkpoints.info

    def shorter(self, series):
        found = info(self, series)
        front = {**found["data"]["front_end"], "seconds": 0.125}
        return found | {"data": {**found["data"], "front_end": front}}

    assert evaluate.restore(runs / "maml")[2].data.seconds != 0.125
    monkeypatch.setattr(checkpoints.Checkpoints, "info", shorter)
    assert evaluate.restore(runs / "maml")[2].data.seconds == 0.125
    model = adapt.load(runs / "maml")
    assert model.seconds == 0.125
    with pytest.raises(UserError, match="a dict of lists"):
        model.adapt([("a", ["x.wav"]), ("b", ["y.wav"])])
    with pytest.raises(UserError, match="None is no path of a sound"):
        model.adapt({"a": [None], "b": ["y.wav"]})


def test_refusals(runs, tmp_path):
    with pytest.raises(UserError, match="not a folder"):
        evaluate.evaluate(tmp_path / "nowhere")
    with pytest.raises(UserError, match="no 'latest' checkpoint"):
        evaluate.evaluate(tmp_path)
    assert not any(tmp_path.iterdir())
    with pytest.raises(UserError, match="net.width belongs to training"):
        evaluate.evaluate(runs / "maml", overrides=[("net.width", "9")])
    with pytest.raises(UserError, match="lower way"):
        evaluate.evaluate(runs / "maml", overrides=[("eval.way", "40")])
    (runs / "clips" / "tone00" / "0.wav").rename(runs / "moved.wav")
    with pytest.raises(UserError, match="other content"):
        evaluate.evaluate(runs / "maml")
    with pytest.raises(UserError, match="other content"):
        # As training ends, which says again where its data are.
        here = [("data.dir", str(runs / "clips"))]
        evaluate.evaluate(runs / "maml", overrides=here)
    (runs / "moved.wav").rename(runs / "clips" / "tone00" / "0.wav")


def test_a_finished_run_is_judged_where_its_data_are_now(runs):
    """By the command of before, but for the place."""
    before = evaluate.evaluate(runs / "maml")
    place = (runs / "clips").rename(runs / "elsewhere")
    fields = {"system": "maml", "train.steps": 4, "inner.steps": 1}
    fields |= {"outer.joint_until": 0.0, "hyper.trunk": "mlp"}
    try:
        train.main(tiny.arguments(place, runs / "maml", **fields))
    finally:
        place.rename(runs / "clips")
    result = json.loads((runs / "maml" / "result.json").read_text())
    assert result["values"] == before["values"]
    assert result["config"]["data"]["dir"] == str(place)


def test_adapting_refuses_what_it_cannot_use(runs, tmp_path):
    model = adapt.load(runs / "maml")
    tones = sorted((runs / "clips" / "tone03").iterdir())
    noise = tmp_path / "notes.wav"
    noise.write_text("dear diary")
    with pytest.raises(UserError, match="at least two classes"):
        model.adapt({"a": tones})
    for none in ([], iter(())):
        with pytest.raises(UserError, match="'b' has no examples"):
            model.adapt({"a": tones, "b": none})
    with pytest.raises(UserError, match="for its examples; give a list"):
        model.adapt({"a": tones, "b": noise})
    with pytest.raises(UserError, match="notes.wav"):
        model.adapt({"a": tones, "b": [noise]})
    others = sorted((runs / "clips" / "tone17").iterdir())
    specialist = model.adapt({"a": tones[:2], "b": others[:3]})
    guesses = specialist.predict([tones[4], others[4]])
    assert all(
        sum(g.probabilities.values()) == pytest.approx(1, abs=1e-5)
        for g in guesses
    )
    assert specialist.predict([]) == []
    with pytest.raises(UserError, match="is one item; give a list"):
        specialist.predict(others[4])
    alone = specialist.predict([others[4]])[0]
    assert alone.probability == pytest.approx(guesses[1].probability, abs=1e-5)


def test_latest_checkpoint_is_evaluated_without_its_optimizer(runs):
    result = evaluate.evaluate(runs / "maml", "latest")
    assert result["train"]["checkpoint"] == {"series": "latest", "step": 4}
    assert result["train"]["tasks"] == 8
    info, best, _ = evaluate.restore(runs / "maml", "best")
    _, latest, _ = evaluate.restore(runs / "maml", "latest")
    changed = jax.tree.map(lambda a, b: np.any(a != b), best, latest)
    assert any(jax.tree.leaves(changed)) == (info["checkpoint"]["step"] != 4)


def test_seeds_are_grouped_and_other_runs_are_told_apart(runs):
    result = evaluate.evaluate(runs / "maml")

    def variant(seed=0, updates=4, **fields):
        config = json.loads(json.dumps(result["config"]))
        config["inner"] |= fields
        config["run"]["seed"] = seed
        trained = result["train"] | {"meta_iterations": updates}
        return result | {"seed": seed, "config": config, "train": trained}

    seeds = [variant(), variant(1), variant(2)]
    assert list(results.group(seeds, "abc")) == ["maml"]
    other = [variant(), variant(steps=1)]
    assert list(results.group(other, "ab")) == ["maml in a", "maml in b"]
    longer = [variant(), variant(1, updates=9)]
    assert list(results.group(longer, "ab")) == ["maml in a", "maml in b"]
    twice = [variant(), variant()]
    assert list(results.group(twice, "ab")) == ["maml in a", "maml in b"]


def test_a_result_is_never_replaced_by_another_thing(runs, tmp_path):
    first = evaluate.evaluate(runs / "maml")
    (path,) = results.write_all([first], tmp_path)
    before = path.read_text()
    latest = evaluate.evaluate(runs / "maml", "latest")
    with pytest.raises(UserError, match="another checkpoint series"):
        results.write_all([latest], tmp_path)
    with pytest.raises(UserError, match="two of these runs"):
        results.write_all([first | {"seed": 7}] * 2, tmp_path)
    assert path.read_text() == before and len(list(path.parent.iterdir())) == 1
    with pytest.raises(UserError, match="60 episodes, and this has 59"):
        results.write_all([first | {"episodes": 59}], tmp_path)
    short = first | {"train": first["train"] | {"meta_iterations": 2}}
    with pytest.raises(UserError, match="or number of updates"):
        results.write_all([short], tmp_path)
    again = first | {"command": "another"}
    assert results.write_all([again], tmp_path) == [path]
    other = json.loads(json.dumps(again))
    other["config"]["eval"]["confidence"] = 0.9
    with pytest.raises(UserError, match="name this one with --variant"):
        results.write_all([other], tmp_path)
    assert json.loads(path.read_text())["command"] == "another"


def test_classes_that_training_has_met_are_no_test(runs):
    """Pointing the same clips at another split would be a leak."""
    info, _, _ = evaluate.restore(runs / "maml")
    seen = info["data"]["splits"]
    moved = {"test": [seen["train"][0]], "train": seen["test"]}
    with pytest.raises(UserError, match=f"1 of these test.*{seen['train'][0]}"):
        workdir.refuse_seen_classes("run", seen, moved, "test")
    workdir.refuse_seen_classes("run", seen, moved, "validation")
    workdir.refuse_seen_classes("run", seen, moved, "train")
    # A class is itself under whatever table's name a mixture puts before it.
    mixed = {"test": [f"esc50: {name}" for name in moved["test"]]}
    with pytest.raises(UserError, match="has met"):
        workdir.refuse_seen_classes("run", seen, mixed, "test")
    # Nor does it become another by how a reader writes it.
    mixed = {"test": [seen["validation"][0].upper()]}
    with pytest.raises(UserError, match="has met"):
        workdir.refuse_seen_classes("run", seen, mixed, "test")
    result = evaluate.evaluate(
        runs / "maml", overrides=[("eval.split", "train")]
    )
    assert result["split"] == "train"
