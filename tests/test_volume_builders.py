"""TFDS builders of volumes on small made-up trees."""

import numpy as np
import pytest
import tiny_volumes

pytest.importorskip("tensorflow_datasets")

import tensorflow_datasets as tfds

from htmaml_jax import config
from htmaml_jax.data import find, volume_builders
from htmaml_jax.errors import UserError


def load(name, home, folder=None):
    given = {} if folder is None else {"builder_kwargs": {"folder": folder}}
    data = tfds.load(name, data_dir=home, split=volume_builders.SPLIT, **given)
    return sorted(tfds.as_numpy(data), key=lambda x: x["name"])


def metadata(home, name):
    return tfds.builder_from_directory(home / name / "1.0.0").info.metadata


def acdc(root, patients=(1, 3)):
    """Writes the original tree of ACDC: a folder for each patient."""
    for patient in patients:
        subject = f"patient{patient:03}"
        home = root / subject
        for frame in (1, 12):
            image, mask = tiny_volumes.scan(patient + frame)
            stem = f"{subject}_frame{frame:02}"
            tiny_volumes.write(home / f"{stem}.nii.gz", image)
            tiny_volumes.write(home / f"{stem}_gt.nii.gz", np.minimum(mask, 3))
        cine = np.zeros((4, 4, 4, 2), np.float32)
        tiny_volumes.write(home / f"{subject}_4d.nii.gz", cine)
    return root


def test_a_folder_of_the_decathlon_becomes_a_data_set(tmp_path):
    folder, home = tmp_path / "Task99", tmp_path / "tfds"
    tiny_volumes.decathlon(folder, 3)
    items = load("decathlon", home, folder)
    assert [x["name"] for x in items] == [b"case_00", b"case_01", b"case_02"]
    for i, item in enumerate(items):
        image, mask = tiny_volumes.scan(i)
        np.testing.assert_array_equal(item["image"], image)
        np.testing.assert_array_equal(item["mask"], mask)
        np.testing.assert_array_equal(item["affine"], np.diag([2, 2, 2, 1]))
        assert item["subject"] == item["name"]
    told = metadata(home, "decathlon/blocks")
    assert told["structures"]["1"] == "top-half" and told["unit"] == "mm"
    assert sorted(sum(told["splits"].values(), [])) == sorted(
        told["structures"].values()
    )
    assert set(told["subjects"]) == {"case_00", "case_01", "case_02"}
    # Once prepared it needs no folder.
    again = load("decathlon/blocks", home)
    np.testing.assert_array_equal(again[1]["image"], items[1]["image"])


def test_the_tree_of_acdc_becomes_a_data_set(tmp_path):
    home, folder = tmp_path / "tfds", acdc(tmp_path / "database/training")
    items = load("acdc", home, folder)
    assert [(x["name"].decode(), x["subject"].decode()) for x in items] == [
        (f"patient{n:03}_frame{frame:02}", f"patient{n:03}")
        for n in (1, 3)
        for frame in (1, 12)
    ]
    assert all(set(np.unique(x["mask"])) == {0, 1, 2, 3} for x in items)
    told = metadata(home, "acdc")
    assert told["structures"] == {"1": "RV", "2": "MYO", "3": "LV"}
    # A patient is trained or tested on, never both.
    assert told["subjects"] == {"patient001": "train", "patient003": "test"}
    # The table of the same tree, which meta-training draws from.
    data = config.default().data
    data.update(name="acdc", dir=str(folder), side=8, spacing=2.0)
    table = find.load(data)
    assert sorted(table.masks.cases) == [
        *("patient001_frame01", "patient001_frame01"),
        *("patient001_frame12", "patient001_frame12"),
        *("patient003_frame01", "patient003_frame12"),
    ]


def test_folders_that_are_none(tmp_path):
    home, empty = tmp_path / "tfds", tmp_path / "empty"
    with pytest.raises(UserError, match="empty: no such folder"):
        load("acdc", home, empty)
    empty.mkdir()
    with pytest.raises(UserError, match="holds no acdc data; expected"):
        load("acdc", home, empty)
    with pytest.raises(UserError, match="has no dataset.json"):
        load("decathlon", home, empty)
    folder = acdc(tmp_path / "acdc", (1,))
    bad = folder / "patient001/patient001_frame01_gt.nii.gz"
    tiny_volumes.write(bad, np.full((12, 12, 12), 7, np.uint8))
    with pytest.raises(UserError, match="frame01_gt.nii.gz has the label 7"):
        load("acdc", home, folder)
    bad.unlink()
    with pytest.raises(UserError, match="frame01.nii.gz has no mask"):
        load("acdc", home, folder)


def test_other_files_are_not_taken_for_the_prepared(tmp_path):
    home = tmp_path / "tfds"
    load("acdc", home, acdc(tmp_path / "one", (1,)))
    other = acdc(tmp_path / "two", (1, 3))
    with pytest.raises(UserError, match="prepared from other files than"):
        volume_builders.Acdc(folder=other, data_dir=home)


def test_corrected_files_are_not_taken_for_the_prepared(tmp_path):
    """Also where files of other labels, or names, are as long as before."""
    home, folder = tmp_path / "tfds", tmp_path / "blocks"
    tiny_volumes.decathlon(folder, 2)
    _, mask = tiny_volumes.scan(0)
    path = folder / "labelsTr/case_00.nii"
    (folder / "labelsTr/case_00.nii.gz").unlink()
    tiny_volumes.write(path, mask)
    load("decathlon", home, folder)
    volume_builders.Decathlon(folder=folder, data_dir=home)
    about = (folder / "dataset.json").read_text()
    (folder / "dataset.json").write_text(about.replace("Rod", "Bar"))
    with pytest.raises(UserError, match="or from older ones"):
        volume_builders.Decathlon(folder=folder, data_dir=home)
    (folder / "dataset.json").write_text(about)
    volume_builders.Decathlon(folder=folder, data_dir=home)
    size = path.stat().st_size
    tiny_volumes.write(path, np.minimum(mask, 1))
    assert path.stat().st_size == size
    with pytest.raises(UserError, match="or from older ones"):
        volume_builders.Decathlon(folder=folder, data_dir=home)


def test_a_folder_of_totalsegmentator_becomes_a_data_set(tmp_path):
    folder = tiny_volumes.totalseg(tmp_path / "Body", 2)
    items = load("totalsegmentator", tmp_path / "tfds", folder)
    assert [x["name"] for x in items] == [b"s0000", b"s0001"]
    _, mask = tiny_volumes.apart()
    names = ("aorta", "colon", "liver", "spleen")  # in the order of numbers
    drawn = ("liver", "spleen", "colon", "aorta")
    renumbered = np.array([0, *(1 + names.index(name) for name in drawn)])
    np.testing.assert_array_equal(items[1]["mask"], renumbered[mask])
    there = set(np.unique(items[0]["mask"]))
    assert there == {0, 2, 3, 4}  # the first has no aorta
    about = metadata(tmp_path / "tfds" / "totalsegmentator", "body")
    assert dict(about["structures"]) == dict(zip("1234", names, strict=True))
