"""Hate speech through the doors: who is judged, and by what labels."""

import json

import chex
import hate_tree
import numpy as np
import pytest
import tiny
from refusals import refused

from htmaml_jax import adapt, config, evaluate, train, transfer
from htmaml_jax.data import find

ROUNDS = [("eval.support", "pseudo"), ("eval.confidence", "0.5")]


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return hate_tree.whole(tmp_path_factory.mktemp("hate"), 320)


@pytest.fixture(scope="module")
def run(tree, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run") / "hatemaml"
    train.main(arguments(tree, workdir))
    return workdir


def arguments(tree, workdir, **more):
    values = {
        **tiny.UNCHANGED,
        "system": "hatemaml",
        "train.steps": 12,
        "data.name": "hate",
        "data.encoder": "ngrams",
        "data.size": 24,
        "data.train": "de+id",
        "data.validation": "fr",
        "data.test": "ar+hatecheck-nl",
        "data.domains": 5,
        "data.way": 2,
        "data.shot": 2,
        "data.query": 2,
        "eval.way": 2,
        "eval.shot": 2,
        "eval.query": 4,
        "eval.domain": "hate-ar",
        "net.kind": "ngrams",
        "net.output": "labels",
        "outer.joint_until": 0.0,
        "inner.over": "(?!body/(table|weights)).*",
        "outer.rate": 0.01,
        **more,
    }
    return tiny.arguments(tree, workdir, **values)


@pytest.mark.slow
def test_few_shot_and_zero_shot_through_the_doors(run, tmp_path, capsys):
    few = json.loads((run / "result.json").read_text())
    assert few["benchmark"] == few["data"]["domain"] == "hate-ar"
    assert (few["metric"], few["variant"]) == ("macro_f1", "default")
    assert few["train"]["validation"]["macro_f1"] > 0.5
    for domain, support in (
        ("hate-ar", "train"),
        ("hatecheck-nl", "train"),
        ("hate-ar", "none"),
        ("hate-ar", "pseudo"),
    ):
        evaluate.main(
            [
                str(run),
                f"--config.eval.domain={domain}",
                f"--config.eval.support={support}",
                "--config.eval.confidence=0.5",
                f"--out={tmp_path}",
            ]
        )
    names = {str(x.relative_to(tmp_path)) for x in tmp_path.glob("*/*.json")}
    assert names == {
        "hate-ar/hatemaml+zero-shot-2w0s-s0.json",
        "hatecheck-nl/hatemaml+zero-shot-2w0s-s0.json",
        "hate-ar/hatemaml+unadapted-2w0s-s0.json",
        "hate-ar/hatemaml+self-training-2w0s-s0.json",
    }
    for name in names:
        found = json.loads((tmp_path / name).read_text())
        items = found["corpus"]["items"]
        # 640 test cases make three chunks, the last of them longer.
        assert found["episodes"] == len(found["values"]) == items // 200
        assert sum(found["corpus"]["by_class"]) == items
        assert 0 <= found["corpus"]["macro_f1"] <= 1
        assert few["episodes_id"] != found["episodes_id"]
    assert "on hatecheck-nl" in capsys.readouterr().out


@pytest.mark.slow
def test_gold_labels_of_the_target_are_never_seen(run, tree, monkeypatch):
    """Other gold labels change what precision says, and nothing else."""
    said = []

    def watched(odds, *more):
        said.append(odds)
        return transfer_confident(odds, *more)

    transfer_confident = transfer.confident
    monkeypatch.setattr(transfer, "confident", watched)
    one = evaluate.evaluate(run, overrides=ROUNDS)
    first, plain = said.copy(), find.load

    def mixed_up(data):
        table = plain(data)
        mine = table.labels // 2 == table.domains.index("hate-ar")
        free = mine & (table.uses == 1)
        labels = table.labels.copy()
        labels[free] = np.random.default_rng(0).permutation(labels[free])
        object.__setattr__(table, "labels", labels)
        table.__dict__["fingerprint"] = one["data"]["fingerprint"]
        return table

    said.clear()
    monkeypatch.setattr(find, "load", mixed_up)
    two = evaluate.evaluate(run, overrides=ROUNDS)
    chex.assert_trees_all_equal(first, said)
    assert one["values"] == two["values"] and one["corpus"] == two["corpus"]
    rounds = [[r["precision"] for r in x["self_training"]] for x in (one, two)]
    assert len(rounds[0]) == 3
    assert rounds[0] != rounds[1]
    kept = [r["kept"] for r in one["self_training"]]
    assert all(0 < a == b <= 150 for a, b in kept)
    # A round's guesses change the next one's model.
    assert (first[0] != first[1]).any()


@pytest.mark.slow
def test_precision_is_that_of_pseudo_labels(run, monkeypatch):
    found = evaluate.evaluate(run, overrides=ROUNDS)
    assert all(0 <= r["precision"] <= 1 for r in found["self_training"])
    # A model that is sure of nothing gets no pseudo-labels, and goes on.
    nothing = [*ROUNDS, ("eval.confidence", "0.999999")]
    found = evaluate.evaluate(run, overrides=nothing)
    zero = evaluate.evaluate(run, overrides=[("eval.support", "train")])
    kept = {tuple(r["kept"]) for r in found["self_training"]}
    assert kept == {(0, 0)}
    assert {r["precision"] for r in found["self_training"]} == {None}
    np.testing.assert_allclose(found["values"], zero["values"], atol=1e-4)


def test_auxiliary_texts_are_of_all_training_languages(tree):
    data = config.default().data
    data.update(name="hate", dir=str(tree), size=24, test="ar")
    data.update(train="de+id", validation="fr")
    table = find.load(data)
    batch = transfer.auxiliary(table, 4)
    rows = [
        int(np.flatnonzero((table.inputs == x).all(axis=1))[0])
        for x in batch.inputs
    ]
    names = [table.classes[i] for i in table.labels[rows]]
    labels = ["hateful", "neither"]
    assert [labels[i] for i in batch.targets] == [
        name.split("/")[1] for name in names
    ]
    assert sorted(names) == sorted(
        2 * [f"hate-{x}/{y}" for x in ("de", "id") for y in labels]
    )
    other = transfer.auxiliary(table, 4, seed=1)
    assert (batch.inputs != other.inputs).any()


@pytest.mark.slow
def test_what_cannot_be_judged(run):
    def judged(**more):
        pairs = [(f"eval.{k}", v) for k, v in more.items()]
        return lambda: evaluate.evaluate(run, overrides=pairs)

    refused(judged(support="train", domain=""), "one domain", "hatecheck-nl")
    refused(judged(domain="hatecheck-nl"), "may be support", "eval.support")
    refused(judged(domain="hatecheck-nl", support="pseudo"), "no texts but")
    other = [("data.test", "ar")]
    refused(lambda: evaluate.evaluate(run, overrides=other), "data.test")


@pytest.mark.slow
def test_a_model_of_named_classes_adapts_by_name(run):
    model = adapt.load(run)
    good, bad = hate_tree.GOOD, hate_tree.BAD
    few = {"neither": [f"{good} tea"], "hateful": [f"{bad} tea", f"{bad} x"]}
    guesses = model.adapt(few).predict([f"a {bad} {bad}", f"{good} {good}", ""])
    assert [g.name for g in guesses][:2] == ["hateful", "neither"]
    refused(lambda: model.adapt({"a": ["x"], "b": ["y"]}), "hateful, neither")
