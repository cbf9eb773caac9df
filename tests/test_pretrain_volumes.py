"""Pre-training of the task encoder of volumes, and training from it."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_volumes
from refusals import refused

from htmaml_jax import evaluate, pretrain, train
from htmaml_jax.data import sources, volumes
from htmaml_jax.embed.volume_encoder import both_sides
from htmaml_jax.outer.augment import Strengths
from htmaml_jax.outer.views import Views, view
from htmaml_jax.run import checkpoints, pretraining

FIELDS = {
    "system": "htmaml",
    "embed.body": "own",
    "pretrain.steps": 30,
    "pretrain.batch": 8,
    "pretrain.crop": 0.75,
}


@pytest.fixture(scope="module")
def blocks(tmp_path_factory):
    return tiny_volumes.decathlon(tmp_path_factory.mktemp("data") / "blocks")


@pytest.fixture(scope="module")
def encoder(blocks, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run") / "encoder"
    pretrain.main(tiny_volumes.arguments(blocks, workdir, **FIELDS))
    return workdir


def drawn_table(count=12, side=8):
    """Makes a table of cubes of tissues, each its own pattern of slabs."""
    rng = np.random.default_rng(0)
    slabs = rng.choice(np.uint8([1, 20]), (count, side // 2, side // 2))
    tissues = slabs.repeat(2, 1).repeat(2, 2)[..., None].repeat(side, -1)
    names = {1: "a", 2: "b", 3: "c"}
    splits = {"train": ("a",), "validation": ("b",), "test": ("c",)}
    plan = volumes.Plan("drawn", names, splits, "none", (1.0, 1.0, 1.0))
    return volumes.assemble(
        plan,
        "here",
        side,
        "content",
        inputs=tissues,
        masks=np.where(tissues > 15, 1, 2).astype(np.uint8),
        labels=np.arange(count, dtype=np.int32) % 2,
        subjects=np.arange(count) // 2,
        cases=np.array([str(i) for i in range(count)]),
        drawn=True,
    )


def test_the_loss_falls_and_nothing_is_told_from_itself(encoder):
    """Of four structures one is for validation: there is no score."""
    scores = checkpoints.Checkpoints(encoder).info("latest")["scores"]
    assert scores == {"before": {}, "after": {}}
    lines = (encoder / "metrics.jsonl").read_text().splitlines()
    first, last = (json.loads(x)["train/loss"] for x in lines)
    assert last < first


@pytest.mark.slow
def test_training_starts_from_it(encoder, blocks, tmp_path):
    fields = FIELDS | {
        "embed.pretrained": encoder,
        "outer.frozen": "embed/body/.*",
    }
    train.main(tiny_volumes.arguments(blocks, tmp_path / "run", **fields))
    _, meta, _ = evaluate.restore(tmp_path / "run", "latest")
    body = meta["embed"]["body"]
    old = checkpoints.Checkpoints(encoder).meta("latest", {"body": body})
    jax.tree.map(np.testing.assert_array_equal, body, old["body"])
    wider = fields | {"embed.width": 16}
    run = tiny_volumes.arguments(blocks, tmp_path / "no", **wider)
    refused(lambda: train.main(run), "embed.width=8", "16")
    base = fields | {"embed.pretrained": "", "net.pretrained": encoder}
    run = tiny_volumes.arguments(blocks, tmp_path / "no", **base)
    refused(lambda: train.main(run), "of volumes", "it as embed.pretrained")
    assert not (tmp_path / "no").exists()


def test_views_are_smaller_cubes_of_their_volume():
    inputs = jnp.arange(6 * 512.0).reshape(6, 8, 8, 8, 1)
    got = view(inputs, jax.random.key(0), Views(0.75, Strengths()))
    assert got.shape == (6, 6, 6, 6, 1)
    corners = set()
    for volume, mine in zip(np.asarray(inputs), np.asarray(got), strict=True):
        # The contrast is left alone but for rounding.
        corner = round(float(mine[0, 0, 0, 0] - volume[0, 0, 0, 0]))
        i, j, k = np.unravel_index(corner, (8, 8, 8))
        assert max(i, j, k) <= 2
        corners.add((i, j, k))
        cut = volume[i : i + 6, j : j + 6, k : k + 6]
        np.testing.assert_allclose(mine, cut, atol=0.1)
    assert len(corners) > 3
    bent = view(inputs, jax.random.key(0), Views(0.75, Strengths(gain=0.9)))
    assert float(jnp.abs(bent - got).max()) > 1


@pytest.mark.slow
def test_what_is_drawn_is_drawn_in_two_contrasts():
    table = drawn_table()
    rows = np.arange(2, 12)
    shared, sample = sources.pairs(table, rows, 6)
    one, two, groups = sample(shared, jax.random.key(0))
    assert one.shape == two.shape == (6, 8, 8, 8, 1)

    def rest(image, row):
        """Share of the variance that the tissues of a row do not explain."""
        tissues = table.inputs[row].ravel()
        values = np.asarray(image).ravel()
        sums = np.bincount(tissues, values) / np.maximum(
            np.bincount(tissues), 1
        )
        return np.var(values - sums[tissues]) / np.var(values)

    for a, b, group in zip(one, two, groups, strict=True):
        found = [min(rows, key=lambda row: rest(x, row)) for x in (a, b)]
        assert found[0] == found[1]
        assert table.recordings[found[0]] == group
        assert float(jnp.abs(a - b).max()) > 0.5


def test_features_are_averaged_inside_and_outside():
    features = np.random.default_rng(0).normal(size=(2, 2, 2, 2, 3))
    masks = np.zeros((2, 4, 4, 4), bool)
    masks[0, :2, :2, :2] = masks[1, 2:] = True
    got = np.asarray(both_sides(jnp.asarray(features), jnp.asarray(masks)))
    assert got.shape == (2, 6)
    np.testing.assert_allclose(got[0, :3], features[0, 0, 0, 0], rtol=1e-5)
    np.testing.assert_allclose(
        got[1],
        np.ravel([features[1, i].mean((0, 1)) for i in (1, 0)]),
        rtol=1e-5,
    )
    table = drawn_table()
    inside = table.inside(np.array([0, 3]))
    np.testing.assert_array_equal(inside[0], table.inputs[0, ..., 0] > 15)
    np.testing.assert_array_equal(inside[1], table.inputs[3, ..., 0] <= 15)


@pytest.mark.slow
def test_features_are_scored_by_telling_structures_apart(tmp_path, capsys):
    """Twelve structures: two are for validation, and blocks differ a lot."""
    blocks = tiny_volumes.decathlon(tmp_path / "blocks", structures=12)
    # Each has a cube of its own, which must show the other one, too.
    fields = FIELDS | {"data.side": 16}
    run = tiny_volumes.arguments(blocks, tmp_path / "run", **fields)
    pretrain.main(run)
    said = capsys.readouterr().out
    assert "(2-way 1-shot)" in said
    scores = checkpoints.Checkpoints(tmp_path / "run").info("latest")["scores"]
    assert scores["after"]["nearest"] > 0.6


def test_tasks_that_tell_structures_apart_are_as_small_as_need_be():
    table = drawn_table()
    apart = pretraining.telling
    # Two classes, six subjects: the first asks for none, both are in each.
    wide = dataclasses.replace(table, splits={"validation": ("a", "b")})
    assert apart(wide, "validation", 5)[:3] == (2, 1, 1)
    assert apart(table, "train", 5) is None
    lone = dataclasses.replace(wide, domain_of=np.array([0, 1, 0], np.int32))
    lone = dataclasses.replace(lone, domains=("one", "two"))
    assert apart(lone, "validation", 5) is None
