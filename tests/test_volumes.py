"""Volumes: tables, images drawn of tissues, episodes, augmentation."""

import dataclasses
import json

import chex
import jax
import numpy as np
import pytest
import tiny_volumes

from htmaml_jax import intervals, surfaces
from htmaml_jax.data import draw, find, mixture, paint, sources, together
from htmaml_jax.errors import UserError

SHAPE = draw.Shape(1, 1, 2, 1, 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_volumes.decathlon(tmp_path_factory.mktemp("blocks"))


@pytest.fixture(scope="module")
def table(folder):
    return find.load(tiny_volumes.settings("decathlon", folder))


def test_a_folder_of_the_decathlon_by_path(table):
    assert table.name == "blocks" and table.kind == "volumes"
    assert table.classes == ("ball", "plate", "rod", "top-half")
    assert table.inputs.shape[1:] == (8, 8, 8, 1)
    assert table.inputs.dtype == np.uint8
    about = table.masks
    assert about.masks.shape == table.inputs.shape[:-1]
    assert set(about.units) == {"mm"} and (about.spacing == 2).all()
    # The masks lie on what is bright, brighter the higher its label.
    means = {}
    for row, name in enumerate(table.classes):
        mine = table.labels == row
        inside = about.masks[mine] == row + 1
        assert (inside.sum((1, 2, 3)) > 20).all()
        means[name] = table.inputs[mine][..., 0][inside].mean()
    assert means["top-half"] < means["ball"] < means["rod"] < means["plate"]


def test_splits_share_neither_structures_nor_subjects(table):
    rows = {s: table.rows_of(s) for s in ("train", "validation", "test")}
    assert sum(map(len, rows.values())) == len(table.labels)
    for a in rows:
        for b in rows:
            if a != b:
                for of in (table.labels, table.recordings):
                    assert not set(of[rows[a]]) & set(of[rows[b]])


@pytest.mark.parametrize("loader", ["device", "tfdata"])
def test_episodes_hold_the_masks_of_one_structure(table, loader):
    if loader == "tfdata":
        pytest.importorskip("tensorflow")
    source = find.source(table, SHAPE, "train", 3, loader)
    piece = next(source.pieces(5, 4))
    made = jax.device_get(jax.jit(source.episodes)(source.shared, piece))
    pool = draw.make_pool(table, "train", SHAPE)
    for at in range(4):
        drawn = draw.draw(np, pool, SHAPE, 3, 0, 5 + at)
        for side, rows in (
            (made.support, drawn.support[0]),
            (made.query, drawn.query[0]),
        ):
            assert side.targets.dtype == np.int32
            own = 1 + table.labels[rows][:, None, None, None]
            masks = table.masks.masks[rows] == own
            np.testing.assert_array_equal(side.targets[at], masks)
            image = table.inputs[rows][..., 0].astype(float)
            mean = image.mean((1, 2, 3), keepdims=True)
            spread = image.std((1, 2, 3), keepdims=True)
            np.testing.assert_allclose(
                side.inputs[at][..., 0], (image - mean) / spread, atol=1e-4
            )
        heard = table.recordings
        assert not set(heard[drawn.support[0]]) & set(heard[drawn.query[0]])


def label_maps(root, subjects=(1, 2, 13, 14)):
    """Writes maps with three structures: of training, validation, test."""
    for subject in subjects:
        data = np.zeros((24, 24, 24), np.int16)
        data[4:10, 6:18, 6:18] = 11
        data[10:15, 6:18, 6:18] = 10
        data[15:20, 6:18, 6:18] = 53
        name = f"training_seg_{subject:02}.nii.gz"
        tiny_volumes.write(root / name, data)
    return root


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    root = label_maps(tmp_path_factory.mktemp("maps"))
    return find.load(tiny_volumes.settings("synthseg", root))


def test_label_maps_are_split_by_subject_and_structure(drawn):
    assert drawn.masks.drawn.all()
    found = {
        split: {
            (drawn.classes[drawn.labels[r]], drawn.masks.cases[r])
            for r in drawn.rows_of(split)
        }
        for split in drawn.splits
    }
    one, two = "training_seg_13", "training_seg_14"
    assert found == {
        "train": {
            ("left-caudate", "training_seg_01"),
            ("left-caudate", "training_seg_02"),
        },
        "validation": {("left-thalamus", one), ("left-thalamus", two)},
        "test": {("right-hippocampus", one), ("right-hippocampus", two)},
    }


def test_label_maps_with_strange_labels_are_refused(tmp_path):
    root = label_maps(tmp_path, (1,))
    tiny_volumes.write(
        root / "training_seg_02.nii.gz", np.full((9, 9, 9), 999, np.int16)
    )
    with pytest.raises(UserError, match="training_seg_02.nii.gz.*label 999"):
        find.load(tiny_volumes.settings("synthseg", root))


def test_images_are_drawn_anew_in_every_task(tmp_path):
    """Alike from both backends, one contrast per task, another in the next."""
    # Cubes that show enough beside the structure to compare it with.
    drawn = find.load(
        tiny_volumes.settings("synthseg", label_maps(tmp_path), side=16)
    )
    pool = draw.make_pool(drawn, "train", SHAPE._replace(query=1))
    shape = SHAPE._replace(query=1)
    examples = sources.examples_of(drawn)
    source = sources.device(drawn, shape, "train", 0)
    made = jax.jit(source.episodes)(source.shared, np.arange(40))
    made = jax.device_get(made)
    for at in (0, 1):
        one = draw.draw(np, pool, shape, 0, 0, at)
        plain = sources.assemble(np, examples, one, at)
        got = jax.tree.map(lambda x, at=at: x[at], made)
        chex.assert_trees_all_close(plain, got, atol=1e-4)

    def contrast(batch):
        inside = batch.targets > 0
        x = batch.inputs[..., 0]
        return [
            x[i][inside[i]].mean() - x[i][~inside[i]].mean()
            for i in np.ndindex(inside.shape[:2])
        ]

    support, query = contrast(made.support), contrast(made.query)
    # Brightness of the structure: same in a task, anything between tasks.
    assert np.corrcoef(support, query)[0, 1] > 0.8
    assert 0.2 < np.mean(np.array(support) > 0) < 0.8


def test_right_and_left_look_alike():
    both = paint.codes(np.array([[17, 53], [2, 41]]))
    assert (both[:, 0] == both[:, 1]).all() and both[0, 0] != both[1, 0]


def test_a_domain_without_classes_in_a_split_has_no_tasks(drawn, table):
    import dataclasses

    only = {"train": table.classes[:2], "test": table.classes[2:]}
    mixed = mixture.join([drawn, dataclasses.replace(table, splits=only)])
    assert mixed.domains_of("validation").tolist() == [0]
    assert mixed.domains_of("train").tolist() == [0, 1]
    of = find.domains(mixed, "validation", 0, 50)
    assert list(of) == ["synthseg"] and of["synthseg"].all()
    shape = SHAPE._replace(query=1)
    pool = draw.make_pool(mixed, "validation", shape)
    for i in range(20):
        one = draw.draw(np, pool, shape, 0, 1, i)
        assert one.domain == 0
        assert mixed.masks.drawn[one.query].all()
    rows, classes = sources.asked(mixed, shape, 0, "train", 30)
    assert set(mixed.masks.drawn[rows].ravel()) == {True, False}
    assert (mixed.labels[rows] == classes[:, :, None]).all()
    # Masks are told apart by the numbers of the mixture's classes.
    shown = (mixed.masks.masks == mixed.labels[:, None, None, None] + 1).sum(
        (1, 2, 3)
    )
    assert shown.min() >= together.SMALLEST


def test_volumes_and_pictures_do_not_mix(drawn, tiny_table):
    with pytest.raises(UserError, match="mixes volumes"):
        mixture.join([drawn, tiny_table])


def test_distances_are_those_of_shifted_cubes():
    truth = np.zeros((16, 16, 16), bool)
    truth[4:10, 4:10, 4:10] = True
    same = surfaces.distances(truth, truth, (1, 1, 1), 1.0)
    assert same == {"dice": 1.0, "hd95": 0.0, "surface_dice": 1.0}
    moved = np.roll(truth, 3, 0)
    found = surfaces.distances(moved, truth, (2.0, 1.0, 1.0), 1.0)
    assert found["dice"] == pytest.approx(0.5)
    # Three cells of 2 mm each.
    assert found["hd95"] == pytest.approx(6.0)
    assert 0 < found["surface_dice"] < 1
    near = surfaces.distances(moved, truth, (2.0, 1.0, 1.0), 6.0)
    assert near["surface_dice"] == 1
    nothing = surfaces.distances(0 * truth > 0, truth, (1, 1, 1), 1.0)
    assert nothing == {"dice": 0.0, "hd95": None, "surface_dice": 0.0}
    both = surfaces.distances(0 * truth > 0, 0 * truth > 0, (1, 1, 1), 1.0)
    assert both == {"dice": 1.0, "hd95": 0.0, "surface_dice": 1.0}


def test_reports_average_answers_of_a_volume_first():
    def row(case, dice, hd95):
        return {
            "structure": "heart",
            "case": case,
            "subject": case[0],
            "unit": "mm",
            "dice": dice,
            "hd95": hd95,
            "surface_dice": dice,
        }

    rows = [row("a", 0.2, 1.0), row("a", 0.4, 3.0), row("b", 0.9, None)]
    told = surfaces.report([*rows, row("a2", 0.5, 1.0)], 2.0)
    assert told["subjects"] == {"a2": "a"}
    # Of the first subject 0.3 and 0.5, of the second 0.9.
    mean = told["by_structure"]["heart"]["dice"]
    assert mean == intervals.summary(np.array([0.4, 0.9]))
    found = surfaces.report(rows, 2.0)["by_structure"]["heart"]
    assert found["dice"]["mean"] == pytest.approx(0.6)
    assert found["hd95"] == {"mean": 2.0, "ci95": None}
    assert found["answers"] == 3 and found["without_distance"] == 1
    assert found["volumes"]["a"]["hd95"] == 2.0
    assert found["volumes"]["b"]["hd95"] is None
    json.dumps(found, allow_nan=False)


def test_distances_are_in_the_units_of_each_volume(drawn):
    """Cells of 1, 2 and 3 mm: three cells beside it are 6 mm apart."""
    spacing = np.broadcast_to(np.float32([1, 2, 3]), drawn.masks.spacing.shape)
    table = dataclasses.replace(
        drawn, masks=drawn.masks._replace(spacing=spacing)
    )
    truth = np.zeros((1, 1, 16, 16, 16), np.uint8)
    truth[..., 4:10, 4:10, 4:10] = 1
    told = surfaces.compare(
        np.roll(truth, 3, 3),
        truth,
        table,
        np.zeros((1, 1, 1), int),
        np.zeros((1, 1), int),
        2.0,
    )
    (of,) = told["by_structure"].values()
    assert of["hd95"]["mean"] == pytest.approx(6.0)


@pytest.mark.slow
def test_real_volumes(real_data):
    """Patients of ACDC's test are in no other split; cords are whole."""
    spine = find.load(tiny_volumes.settings("spinalcord", real_data))
    assert sorted(spine.masks.cases) == ["mt", "t1", "t2", "t2s"]
    assert (spine.masks.masks.sum((1, 2, 3)) > 8).all()
    data = tiny_volumes.settings("acdc", real_data)
    data.side = 32
    heart = find.load(data)
    assert set(heart.masks.units) == {"voxels"}
    train, test = (
        heart.recordings[heart.rows_of(s)] for s in ("train", "test")
    )
    assert set(train).isdisjoint(test) and len(set(test)) == 33
    assert len(set(train)) == 67
