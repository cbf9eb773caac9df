"""Whole runs on volumes: training, evaluation, adapting to scans."""

import json

import chex
import jax
import jax.numpy as jnp
import nibabel
import numpy as np
import pytest
import tiny_volumes

from htmaml_jax import adapt, evaluate, intervals, slices, starts, train
from htmaml_jax.data import find, sources
from htmaml_jax.episode import Batch, Episode


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of maml on blocks; its folder of data lies beside it."""
    root = tmp_path_factory.mktemp("volumes")
    blocks = tiny_volumes.decathlon(root / "blocks")
    train.main(tiny_volumes.arguments(blocks, root / "run", system="maml"))
    return root / "run"


@pytest.mark.slow
def test_results_tell_structures_and_volumes_apart(run):
    found = json.loads((run / "result.json").read_text())
    assert found["metric"] == "dice" and found["benchmark"] == "blocks"
    told = found["surfaces"]
    assert told["tolerance"] == 2.0
    (one,) = told["by_structure"].values()
    assert one["unit"] == "mm"
    assert one["answers"] == found["episodes"] * found["query"] == 24
    # As many as there are volumes, not tasks.
    half = intervals.half_width(
        np.array([v["dice"] for v in one["volumes"].values()])
    )
    assert found["ci95"] == pytest.approx(half, abs=1e-4)
    # Dice of the same answers, from the compiled step and from the library.
    weights = {k: v["dice"] for k, v in one["volumes"].items()}
    data = evaluate.restore(run)[2]
    table = find.load(data.data)
    shape = find.fixed_shape(data.eval)
    rows, _ = sources.asked(table, shape, 0, "test", found["episodes"])
    asked = table.masks.cases[rows[:, 0]].ravel()
    again = np.mean([weights[case] for case in asked])
    assert again == pytest.approx(found["mean"], abs=1e-3)
    bent = [("eval.finetune", "1"), ("eval.finetune_bend", "0.1")]
    assert evaluate.evaluate(run, overrides=bent)["variant"] == "tuned1+bent0.1"


@pytest.mark.slow
def test_sections_are_drawn_of_every_structure(run, capsys):
    evaluate.main([str(run), "--pictures", "--config.eval.finetune=1"])
    drawn = sorted(x.name for x in (run / "pictures").glob("*.png"))
    table = find.load(evaluate.restore(run)[2].data)
    (name,) = table.splits["test"]
    kept = "".join(c if c.isalnum() else "-" for c in name)
    assert drawn == ["steps.png", f"volumes-{kept}.png"]
    said = capsys.readouterr().out
    assert f"drawn: {run / 'pictures' / drawn[1]}" in said


def test_sections_show_best_median_and_worst():
    masks = np.zeros((5, 1, 8, 8, 8), int)
    masks[:, :, 2:6, 2:6, 3:5] = 1
    found = np.zeros((5, 2, 1, 8, 8, 8), bool)
    for i, width in enumerate((1, 4, 2, 3, 0)):
        found[i, 1, :, 2 : 2 + width, 2:6, 3:5] = True
    query = [
        Batch(np.zeros((1, 8, 8, 8, 1)), mask, np.ones(1)) for mask in masks
    ]
    episodes = [Episode(None, q, 0, 0, np.array([0])) for q in query]
    (made,) = slices.figures(found, episodes, ["left one"]).items()
    assert made[0] == "volumes-left-one"
    said = [t.get_text() for a in made[1].axes for t in a.texts]
    assert said == [
        "best: Dice 0.00, then 1.00",
        "median: Dice 0.00, then 0.67",
        "worst: Dice 0.00, then 0.00",
    ]
    assert slices.fullest(masks[0, 0], 2) == 3


@pytest.mark.slow
def test_adapting_to_scans(run, tmp_path):
    """Predictions lie on the grid of their image, however it is stored."""
    model = adapt.load(run, finetune=2, bend=0.2)
    image, mask = tiny_volumes.scan(100, 18)
    pairs = [
        (
            tiny_volumes.write(tmp_path / "a.nii.gz", image),
            tiny_volumes.write(tmp_path / "a_mask.nii.gz", mask),
        )
    ]
    specialist = model.adapt(pairs, label=2)
    # The ball is 6 voxels of 2 mm wide: half of a cube of 8 cells.
    assert specialist.spacing == pytest.approx(3.0)
    affine = np.array(
        [[0, 0, 2.0, 5], [-2.0, 0, 0, 9], [0, 2.0, 0, -7], [0, 0, 0, 1]]
    )
    new = tiny_volumes.write(tmp_path / "b.nii.gz", image[:, 1:], affine)
    (found,) = specialist.predict([new])
    assert found.mask.shape == image[:, 1:].shape
    assert 0 <= found.probability.min() and found.probability.max() <= 1
    np.testing.assert_array_equal(found.mask, found.probability > 0.5)
    found.save(tmp_path / "out.nii.gz")
    written = nibabel.load(tmp_path / "out.nii.gz")
    np.testing.assert_allclose(written.affine, affine)
    assert written.shape == image[:, 1:].shape
    assert written.get_data_dtype() == np.uint8


@pytest.mark.slow
def test_a_start_may_lack_what_coarse_levels_answer_with(run):
    info, found, config = evaluate.restore(run, "latest")
    config.unlock()
    config.net.pretrained = str(run)
    own = jax.tree.map(jnp.zeros_like, found)
    layer = {"deep1": {"bias": jnp.ones(8)}}
    own["base"]["body"] |= layer
    for meta, more in ((own, layer), (found, {})):
        got = starts.base(meta, config)["base"]["body"]
        chex.assert_trees_all_equal(got, found["base"]["body"] | more)
