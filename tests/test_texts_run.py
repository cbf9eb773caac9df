"""Runs on texts through the doors, and what they adapt to."""

import dataclasses

import numpy as np
import pytest
import tiny
from refusals import refused

from htmaml_jax import adapt, evaluate, train
from htmaml_jax.data import find
from htmaml_jax.run import workdir


@pytest.fixture(scope="module")
def run(own, encoder, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run") / "texts"
    train.main(arguments(own, encoder, workdir))
    return workdir


def arguments(own, encoder, workdir, system="htmaml", **more):
    values = {
        **tiny.UNCHANGED,
        "train.steps": 40,
        "system": system,
        "data.name": "texts",
        "data.encoder": encoder,
        "data.size": 8,
        "net.kind": "vector",
        "net.width": 8,
        "hyper.head": "prototype",
        "hyper.rules": '(("body/.*", "affine"), ("head/kernel", "rows"))',
        "outer.augment.noise": 0.1,
        "outer.augment.drop": 0.2,
        **more,
    }
    return tiny.arguments(own, workdir, **values)


@pytest.mark.slow
def test_a_run_through_the_doors(run):
    found = evaluate.evaluate(run)
    assert found["benchmark"] == found["data"]["name"] == "mine"
    assert found["data"]["front_end"]["length"] == 20
    assert found["mean"] > 0.5  # chance is a third


@pytest.mark.slow
def test_what_a_model_of_texts_is_not_judged_on(run, encoder, monkeypatch):
    plain = find.load

    def strange(data):
        table = plain(data)
        settings = {**table.front_end, "stamp": "other"}
        return dataclasses.replace(table, front_end=settings)

    monkeypatch.setattr(find, "load", strange)
    refused(lambda: evaluate.evaluate(run), "another encoder", "other")
    where = "runs/liu"
    refused(lambda: workdir.refuse_shared_texts(where, "liu", "hwu64"), where)
    workdir.refuse_shared_texts(where, "liu", "liu")
    workdir.refuse_shared_texts(where, "liu", "banking77")


@pytest.mark.slow
def test_adapting_to_texts(run):
    model = adapt.load(run)
    few = {"card": ["my card"], "please": ["please where", "please where"]}
    specialist = model.adapt(few)
    guesses = specialist.predict(["my card", "please where", "", "😀"])
    assert [g.item for g in guesses][:2] == ["my card", "please where"]
    card = [g.probabilities["card"] for g in guesses]
    assert card[0] > card[1]
    assert all(0 <= g.probability <= 1 for g in guesses)
    assert specialist.predict([]) == []
    refused(lambda: specialist.predict([3]), "3 is no text")
    refused(
        lambda: model.adapt({"a": "one", "b": ["x"]}), "'one' for its examples"
    )
    refused(lambda: model.adapt({"a": [], "b": ["x"]}), "'a' has no examples")
    refused(lambda: specialist.listen("a.wav"), "cannot listen")


@pytest.mark.slow
def test_frozen_parameters_stay(own, encoder, tmp_path):
    """The frozen encoder and nearest prototypes: what all must beat."""
    workdir = tmp_path / "frozen"
    frozen = {"outer.frozen": ".*", "hyper.rules": "()"}
    train.main(arguments(own, encoder, workdir, "protonet", **frozen))
    _, meta, _ = evaluate.restore(workdir)
    scale = meta["base"]["body"]["norm"]["scale"]
    np.testing.assert_array_equal(scale, np.full(8, 3.0, np.float32))
    frozen["outer.frozen"] = "nothing"
    with pytest.raises(Exception, match="matches nothing that is learned"):
        train.main(
            arguments(own, encoder, tmp_path / "b", "protonet", **frozen)
        )
