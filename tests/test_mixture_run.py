"""Whole runs on a mixture: training, evaluation by domain, refusals."""

import numpy as np
import pytest
import tiny

from htmaml_jax import adapt, evaluate, train
from htmaml_jax.data import find
from htmaml_jax.data.table import Table
from htmaml_jax.errors import UserError

pytestmark = pytest.mark.slow
NAMES = "omniglot+brains"


def made_up(name):
    """Makes 12 classes of 6 noisy copies of a picture, 8x8."""
    labels = np.repeat(np.arange(12, dtype=np.int32), 6)
    classes = tuple(f"c{i:02}" for i in range(12))
    return Table(
        name=name,
        origin="tests",
        inputs=tiny.pictures(12, 6, seed=3),
        labels=labels,
        recordings=np.arange(len(labels), dtype=np.int32),
        classes=classes,
        splits={
            "train": classes[:5],
            "validation": classes[5:8],
            "test": classes[8:],
        },
        licence="none",
        front_end={"rows": 8},
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs of three systems; the readers are replaced for all tests here."""
    root = tmp_path_factory.mktemp("mixture")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(find, "_load", lambda data: made_up(data.name))
        for system in ("maml", "multi-maml", "finetune"):
            fields = {
                "system": system,
                "data.name": NAMES,
                "data.domains": 2,
                "data.channels": 1,
                "train.steps": 4,
            }
            train.main(tiny.arguments("", root / system, **fields))
        yield root


def test_results_tell_domains_apart(runs):
    found = evaluate.evaluate(runs / "maml")
    parts = found["by_domain"]
    assert list(parts) == ["omniglot", "brains"]
    data = evaluate.restore(runs / "maml")[2].data
    of = find.domains(find.load(data), "test", 0, found["episodes"])
    for name, mine in of.items():
        values = np.array(found["values"])[mine]
        assert parts[name]["mean"] == pytest.approx(values.mean(), abs=1e-4)
    assert found["benchmark"] == NAMES
    assert found["data"]["domains"] == ["omniglot", "brains"]


def test_one_domain_alone_can_be_judged(runs):
    alone = [("data.name", "brains")]
    found = evaluate.evaluate(runs / "maml", overrides=alone)
    assert found["by_domain"] == {} and found["benchmark"] == "brains"
    with pytest.raises(UserError, match="knows the domains omniglot, brains"):
        evaluate.evaluate(runs / "multi-maml", overrides=alone)
    turned = [("data.name", "brains+omniglot")]
    with pytest.raises(UserError, match="by their number"):
        evaluate.evaluate(runs / "multi-maml", overrides=turned)


def test_joint_training_goes_through_the_doors(runs):
    found = evaluate.evaluate(runs / "finetune")
    sizes = found["train"]["parameters"]
    # Ten training classes, and the features of the tiny network.
    assert sizes["joint"] % 10 == 0 and sizes["joint"] > 10
    # Chance is a third.
    assert found["mean"] > 0.6


def test_a_wrong_count_of_domains_is_refused(runs, tmp_path):
    fields = {"data.name": NAMES, "data.domains": 3, "data.channels": 1}
    with pytest.raises(UserError, match="makes 2; set it to that"):
        train.main(tiny.arguments("", tmp_path / "run", **fields))
    assert not (tmp_path / "run").exists()


def test_pictures_are_no_clips_to_adapt_to(runs):
    with pytest.raises(UserError, match="not on sounds"):
        adapt.load(runs / "maml")
