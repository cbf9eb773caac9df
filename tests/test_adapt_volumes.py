"""Whole scans: by tiles, back on their own grid, and what is refused."""

import gzip
import struct
import types

import nibabel
import numpy as np
import pytest
import tiny_volumes

from htmaml_jax import adapt, cli, evaluate
from htmaml_jax.adapt_volumes import VolumeModel, VolumeSpecialist, tiled
from htmaml_jax.errors import UserError

# Axes to the back, up and to the right, voxels of 2 x 1 x 3 mm.
TURNED = np.array(
    [[0, 0, 3.0, -20], [-2.0, 0, 0, 25], [0, 1.0, 0, -7], [0, 0, 0, 1]]
)


@pytest.fixture
def model():
    """A model that is asked for nothing but what it refuses."""
    config = types.SimpleNamespace(data=types.SimpleNamespace(side=8))
    return VolumeModel(None, config)


CT, MR = ({"side": 8, "window": x} for x in ([-160.0, 240.0], None))


@pytest.mark.parametrize(
    ("front_end", "window"),
    [
        (CT, (-160, 240)),
        (MR, None),
        ({"liver": CT, "spleen": CT}, (-160, 240)),
        ({"liver": CT, "brain": MR}, None),
    ],
)
def test_scans_are_seen_as_in_training(monkeypatch, front_end, window):
    fields, _ = cli.read_config("configs/seg3d.py", [])
    restored = {"data": {"front_end": front_end}}, None, fields
    monkeypatch.setattr(evaluate, "restore", lambda *_: restored)
    assert adapt.load("run").window == window


def test_bending_without_steps_is_refused():
    with pytest.raises(UserError, match="bend is for steps of finetune"):
        adapt.load("run", bend=0.1)


def test_tiles_are_averaged_by_distance_to_their_middles():
    """Answers that depend on tile and place, against a sum by hand."""
    side, volume = 4, np.random.default_rng(0).normal(size=(4, 4, 7))
    odds = np.random.default_rng(1).uniform(0.1, 0.9, (8, 4, 4, 4, 2))
    seen = []

    def answer(tiles):
        seen.append(tiles.shape)
        return np.log(odds)

    found = tiled(answer, volume, side)
    # Steps of at most half a tile: at 0, 2 and 3 (1.5, to the even side).
    starts = np.linspace(0, 3, 3).round().astype(int)
    assert seen == [(8, 4, 4, 4, 1)]
    far = np.exp(-(((np.arange(4) - 1.5) / 0.5) ** 2) / 2)
    weight = np.einsum("i,j,k->ijk", far, far, far).clip(1e-3)
    total, share = np.zeros((2, 4, 4, 7)), np.zeros((4, 4, 7))
    for odd, start in zip(odds, starts, strict=False):
        part = slice(start, start + 4)
        total[..., part] += weight * np.moveaxis(odd, -1, 0)
        share[..., part] += weight
    np.testing.assert_allclose(found, total / share, atol=1e-6)


def test_many_tiles_go_through_one_program():
    seen = []

    def constant(tiles):
        seen.append(tiles.shape)
        return np.log(np.full(tiles.shape, 0.25))

    (made,) = tiled(
        constant, np.random.default_rng(0).normal(size=(8, 13, 20)), 8
    )
    np.testing.assert_allclose(made, 0.25, atol=1e-6)
    # 1 x 3 x 4 tiles, eight at a time.
    assert seen == [(8, 8, 8, 8, 1)] * 2


def scan(path, forms=None):
    """Writes a bright ball on a turned grid; returns where it is."""
    places = np.indices((20, 40, 12)).reshape(3, -1)
    where = TURNED[:3, :3] @ places + TURNED[:3, 3:]
    ball = np.linalg.norm(where - [[-2.0], [4.0], [12.0]], axis=0) < 11
    ball = ball.reshape(20, 40, 12)
    image = nibabel.Nifti1Image(100 * ball.astype(np.float32), TURNED)
    for name, (affine, code) in (forms or {}).items():
        getattr(image, f"set_{name}")(affine, code, update_affine=False)
    image.header.set_xyzt_units("mm", "sec")
    nibabel.save(image, path)
    return ball


def bright(tiles):
    """Says that a cell is the structure where it is bright."""
    return np.log(np.where(tiles > 0.5, 0.99, 0.01))


def test_answers_lie_where_the_image_shows_them(tmp_path):
    ball = scan(tmp_path / "turned.nii.gz")
    specialist = VolumeSpecialist(bright, 8, 2.0, None)
    (found,) = specialist.predict([tmp_path / "turned.nii.gz"])
    overlap = 2 * (found.mask * ball).sum() / (found.mask.sum() + ball.sum())
    assert overlap > 0.9
    # One voxel beside it would show.
    moved = np.roll(ball, 2, 1)
    assert 2 * (found.mask * moved).sum() / (2 * ball.sum()) < overlap - 0.03


def test_a_written_mask_lies_on_its_image_for_every_reader(tmp_path):
    """Some go by the qform, some by the sform, and these may differ."""
    other = TURNED.copy()
    other[:3, 3] += 50
    forms = {"sform": (TURNED, 4), "qform": (other, 1)}
    scan(tmp_path / "image.nii.gz", forms)
    specialist = VolumeSpecialist(bright, 8, 4.0, None)
    (found,) = specialist.predict([str(tmp_path / "image.nii.gz")])
    found.save(tmp_path / "mask.nii.gz")
    image, mask = (
        nibabel.load(tmp_path / f"{name}.nii.gz") for name in ("image", "mask")
    )
    assert mask.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asarray(mask.dataobj), found.mask)
    for name in ("get_qform", "get_sform"):
        (one, code), (two, same) = (
            getattr(x, name)(coded=True) for x in (image, mask)
        )
        np.testing.assert_allclose(one, two, atol=1e-5)
        assert code == same
    assert mask.header.get_xyzt_units() == ("mm", "sec")
    np.testing.assert_allclose(
        image.header.get_zooms(), mask.header.get_zooms()
    )


def test_what_a_header_says_wrongly_of_space_is_left_out(tmp_path):
    """A quaternion of no rotation and a unit that there is not."""
    scan(tmp_path / "image.nii.gz", {"sform": (TURNED, 2)})
    plain = bytearray(gzip.decompress((tmp_path / "image.nii.gz").read_bytes()))
    struct.pack_into("<fff", plain, 256, 9.0, 9.0, 9.0)
    plain[123] = 7
    (tmp_path / "image.nii").write_bytes(plain)
    specialist = VolumeSpecialist(bright, 8, 4.0, None)
    (found,) = specialist.predict([tmp_path / "image.nii"])
    found.save(tmp_path / "mask.nii.gz")
    written = nibabel.load(tmp_path / "mask.nii.gz")
    np.testing.assert_allclose(written.affine, TURNED)


def test_a_file_that_cannot_be_used_comes_before_any_answer(tmp_path):
    scan(tmp_path / "good.nii.gz")
    (tmp_path / "bad.nii.gz").write_bytes(b"nothing")

    def never(tiles):
        raise AssertionError("something was segmented")

    specialist = VolumeSpecialist(never, 8, 4.0, None)
    with pytest.raises(UserError, match="bad.nii.gz is no whole NIfTI"):
        specialist.predict([tmp_path / "good.nii.gz", tmp_path / "bad.nii.gz"])
    with pytest.raises(UserError, match="a list of files"):
        specialist.predict(tmp_path / "good.nii.gz")


def test_support_that_cannot_be_used(model, tmp_path):
    image, mask = tiny_volumes.scan(0)
    good = tiny_volumes.write(tmp_path / "a.nii.gz", image)
    empty = tiny_volumes.write(tmp_path / "empty.nii.gz", 0 * mask)
    small = tiny_volumes.write(tmp_path / "small.nii.gz", mask[:5])
    soft = tiny_volumes.write(tmp_path / "soft.nii.gz", mask * 0.37)
    gray = tiny_volumes.write(
        tmp_path / "gray.nii.gz", np.rint(99 * image).astype(np.int16)
    )
    small_gray = (image - image.min()).astype(np.uint8)  # of 8 bits
    eight = tiny_volumes.write(tmp_path / "eight.nii.gz", small_gray)
    whole = tiny_volumes.write(tmp_path / "mask.nii.gz", mask)
    for support, words in (
        ([], "list of pairs"),
        ([good], "no pair"),
        ([(good, empty)], "empty.nii.gz does not show any structure"),
        ([(good, small)], "small.nii.gz has the shape"),
        ([(good, tmp_path / "gone.nii.gz")], "gone.nii.gz cannot be read"),
        ([(good, soft)], "soft.nii.gz has labels that are not whole"),
        ([(whole, good)], "a.nii.gz has labels that are not whole"),
        ([(whole, eight)], "eight.nii.gz has .* different labels"),
        ([(good, gray)], "gray.nii.gz has .* different labels"),
    ):
        with pytest.raises(UserError, match=words):
            model.adapt(support)
    pairs = [(good, whole)]
    for options, words in (
        ({"label": 7}, "mask.nii.gz does not show.*label 7"),
        ({"spacing": 50.0}, "smaller than the network can see"),
        ({"spacing": -2.0}, "or three; or 0"),
        ({"spacing": (1.0, 2.0)}, "or three"),
        ({"spacing": (1.0, 0.0, 2.0)}, "or three"),
        ({"window": np.array([240, -160])}, r"must be \(lowest, highest\)"),
        ({"window": 5}, r"must be \(lowest, highest\)"),
        ({"window": (np.nan, 1.0)}, r"must be \(lowest, highest\)"),
        ({"spacing": np.inf}, "must be one size"),
        ({"spacing": None}, "must be one size"),
        ({"spacing": "2"}, "must be one size"),
        ({"label": "tumor"}, "must be the number of a structure"),
        ({"label": 1.7}, "must be the number of a structure"),
        ({"label": (1, 0)}, "must be the number of a structure"),
        ({"label": (1, 1)}, "each once"),
        ({"spacing": 0.1}, "fills all that the network sees"),
    ):
        with pytest.raises(UserError, match=words):
            model.adapt(pairs, **options)
    even = tiny_volumes.write(tmp_path / "even.nii.gz", 0 * image)
    with pytest.raises(UserError, match="even.nii.gz: all voxels.*are alike"):
        model.adapt([(even, whole)], spacing=2.0)
    with pytest.raises(UserError, match="a ndarray is no path"):
        model.adapt([(image, mask)])


def test_a_mask_is_written_where_one_can_find_it(tmp_path):
    scan(tmp_path / "image.nii.gz")
    specialist = VolumeSpecialist(bright, 8, 4.0, None)
    (found,) = specialist.predict([tmp_path / "image.nii.gz"])
    for name, words in (
        ("mask.mha", "must end in .nii"),
        ("mask", "must end in .nii"),
        ("gone/mask.nii", "is not a folder"),
    ):
        with pytest.raises(UserError, match=words):
            found.save(tmp_path / name)


def test_scans_are_levelled_and_standardised_as_in_training(tmp_path):
    """A window of its own, and tiles of mean 0 and deviation 1."""
    ramp = np.indices((12, 12, 12)).sum(0).astype(np.float32)
    path, seen = tiny_volumes.write(tmp_path / "image.nii.gz", ramp), []

    def answer(tiles):
        seen.append(tiles)
        return bright(tiles)

    for window in ((0.0, 40.0), (10.0, 12.0)):
        VolumeSpecialist(answer, 8, 2.0, window).predict([path])
    assert abs(seen[0].mean((1, 2, 3))).max() < 1e-4
    np.testing.assert_allclose(seen[0].std((1, 2, 3)), 1, atol=1e-3)
    assert np.abs(seen[0] - seen[1]).max() > 0.5
