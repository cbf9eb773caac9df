"""Slices of brain structures: reading, cutting, painting."""

import gzip

import nibabel
import numpy as np
import pytest

from htmaml_jax import config
from htmaml_jax.data import brains, find
from htmaml_jax.data.audio import FrontEnd
from htmaml_jax.errors import UserError

SQUARE = FrontEnd(rows=28, columns=28)


def label_map(shape=(60, 60, 30), step=2.0, present=(10, 49)):
    """Makes a NIfTI file: a block of each structure."""
    volume = np.zeros(shape, np.int16)
    for i, number in enumerate(present):
        volume[10 + 20 * i : 18 + 20 * i, 20:30, 10:20] = number
    image = nibabel.Nifti1Image(volume, np.diag([step, step, step, 1.0]))
    return gzip.compress(image.to_bytes())


def test_brains(tmp_path):
    for subject in (1, 2):
        path = tmp_path / f"training_seg_{subject:02}.nii.gz"
        path.write_bytes(label_map())
    table = brains.read(tmp_path, SQUARE)
    found = {table.classes[label] for label in table.labels}
    assert found == {"left-thalamus", "right-thalamus"}
    assert table.inputs.shape == (2 * 2 * 6, 28, 28, 1)
    np.testing.assert_array_equal(np.unique(table.recordings).size, 4)
    assert brains.read(tmp_path, SQUARE).fingerprint == table.fingerprint
    # Each picture has a contrast of its own.
    assert len({x.tobytes() for x in table.inputs}) == len(table.inputs)
    whole = label_map()
    cut = gzip.compress(gzip.decompress(whole)[:1000])
    for damaged in (b"nothing", whole[:90], gzip.compress(b"none"), cut):
        (tmp_path / "training_seg_03.nii.gz").write_bytes(damaged)
        with pytest.raises(UserError, match="training_seg_03") as caught:
            brains.read(tmp_path, SQUARE)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="channels=1"):
        brains.read(tmp_path, FrontEnd(rows=28, columns=28, channels=2))


def test_brains_of_two_splits_share_no_subject(tmp_path):
    """Subject 14 is one of the test's, 2 of the training's."""
    both = label_map(present=(10, 12))
    for subject in (2, 14):
        path = tmp_path / f"training_seg_{subject:02}.nii.gz"
        path.write_bytes(both)
    table = brains.read(tmp_path, SQUARE)
    found = [table.classes[label] for label in table.labels]
    assert found == ["left-thalamus"] * 6 + ["left-putamen"] * 6
    (tmp_path / "training_seg_14.nii.gz").unlink()
    (tmp_path / "training_seg_02.nii.gz").write_bytes(label_map(present=(12,)))
    with pytest.raises(UserError, match="none of the structures"):
        brains.read(tmp_path, SQUARE)


def test_a_folder_of_label_maps_by_any_name(tmp_path):
    path = tmp_path / "maps" / "training_seg_01.nii.gz"
    path.parent.mkdir()
    path.write_bytes(label_map())
    data = config.default().data
    data.update(name="brains", dir=str(path.parent))
    assert find.load(data).name == "brains"


def test_brains_come_to_two_millimetres():
    fine = brains._volume(label_map((120, 120, 60), step=1.0), "fine")
    assert fine.shape == (60, 60, 30)
    coarse = brains._volume(label_map(), "coarse")
    np.testing.assert_array_equal(np.unique(coarse), [0, 10, 49])


def test_a_cut_has_its_structure_in_the_middle():
    volume = brains._volume(label_map(), "made up")
    cuts = list(brains._cuts(volume, 49, np.random.default_rng(0)))
    assert len(cuts) == 6
    for cut in cuts:
        assert cut.shape == (40, 40)
        middle = np.argwhere(cut == 49).mean(0)
        assert (abs(middle - 20) <= 4).all()
    assert not list(brains._cuts(volume, 17, np.random.default_rng(0)))


def test_contrast_says_nothing_about_a_class():
    """The brightness of a label is anything from picture to picture."""
    cut = np.zeros((40, 40), np.int32)
    cut[10:30, 10:30] = 12
    rng = np.random.default_rng(0)
    pictures = [brains.paint(cut, rng) for _ in range(40)]
    inside = [x[15:25, 15:25].mean() for x in pictures]
    outside = [x[:5].mean() for x in pictures]
    brighter = np.mean(np.greater(inside, outside))
    assert 0.2 < brighter < 0.8
    for picture in pictures:
        assert 0 <= picture.min() and picture.max() <= 1


def test_structures_are_split_in_pairs():
    where = {n: s for s, names in brains.SPLITS.items() for n in names}
    assert len(where) == 32 == sum(map(len, brains.SPLITS.values()))
    for name, split in where.items():
        if name.startswith("left-"):
            assert where[name.replace("left-", "right-")] == split
