"""NIfTI: what is refused, and where a patch lies."""

import gzip
import struct

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from htmaml_jax.data import nifti
from htmaml_jax.errors import UserError

STEP = np.diag([2.0, 2.0, 2.0, 1.0])
COLOURS = [("R", "u1"), ("G", "u1"), ("B", "u1")]


def as_bytes(data, affine=STEP):
    return gzip.compress(nibabel.Nifti1Image(data, affine).to_bytes())


def flat_voxels():
    """Sets the second of pixdim to 0 and leaves no other transform."""
    plain = bytearray(gzip.decompress(as_bytes(noise())))
    struct.pack_into("<f", plain, 76 + 2 * 4, 0.0)
    struct.pack_into("<hh", plain, 252, 0, 0)
    return gzip.compress(bytes(plain))


def in_units(unit):
    image = nibabel.Nifti1Image(noise(), STEP)
    image.header.set_xyzt_units(unit)
    return gzip.compress(image.to_bytes())


def beyond():
    """Damages the place where voxels begin, beyond all numbers."""
    plain = bytearray(gzip.decompress(as_bytes(noise())))
    plain[111] = 123
    return gzip.compress(bytes(plain))


def noise(shape=(9, 8, 7), kind=np.float32):
    return np.random.default_rng(0).normal(0, 50, shape).astype(kind)


def broken(value):
    data = noise()
    data[1, 2, 3] = value
    return as_bytes(data)


def announced(*shape):
    """Says in the header of a short file that there is far more."""
    plain = bytearray(gzip.decompress(as_bytes(noise())))
    struct.pack_into("<3h", plain, 42, *shape)
    return bytes(plain)


UNREADABLE = [
    (as_bytes(noise((9, 8))), "2-D"),
    (as_bytes(noise((9, 8, 7, 2))), "4-D"),
    (broken(np.nan), "1 voxels that are not finite"),
    (broken(np.inf), "1 voxels that are not finite"),
    (as_bytes(noise())[:-200], "no whole NIfTI"),
    (gzip.compress(gzip.decompress(as_bytes(noise()))[:-900]), "no whole"),
    (announced(6000, 6000, 600), "bytes announced"),
    (as_bytes(np.full((4, 4, 4), 1e300)), "64 voxels that are not finite"),
    (b"", "no whole NIfTI"),
    (b"not a volume", "no whole NIfTI"),
    (flat_voxels(), "spacing of"),
    (in_units("micron"), "units of a micron"),
    (beyond(), "no whole NIfTI"),
    (as_bytes(noise().astype(np.complex64)), "one real number a voxel"),
    (as_bytes(np.zeros((4, 4, 4), COLOURS)), "not colours"),
]


# Not by the bytes, of which gzip makes others each second.
@pytest.mark.parametrize(
    ("data", "words"), UNREADABLE, ids=[words for _, words in UNREADABLE]
)
def test_what_cannot_be_read_is_named(data, words):
    with pytest.raises(UserError, match=words) as caught:
        nifti.read(data, "brain_07.nii.gz")
    assert "brain_07.nii.gz" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_plain_and_compressed_files_are_read():
    data = noise()
    for form in (as_bytes(data), gzip.decompress(as_bytes(data))):
        volume = nifti.read(form, "one")
        np.testing.assert_array_equal(volume.data, data)
        np.testing.assert_allclose(volume.affine, STEP)


def test_other_ways_to_store_a_volume_are_read():
    data = noise()
    late = nibabel.Nifti2Image(data, STEP).to_bytes()
    for form in (late, gzip.compress(late), as_bytes(data[..., None])):
        volume = nifti.read(form, "one")
        np.testing.assert_array_equal(volume.data, data)
        np.testing.assert_allclose(volume.affine, STEP)


def test_a_mask_must_lie_on_its_image():
    image = nifti.Volume(noise(), STEP, "image")
    nifti.check_pair(image, image._replace(name="mask"))
    other = nifti.Volume(noise((9, 8, 6)), STEP, "small_mask")
    with pytest.raises(UserError, match="small_mask has the shape"):
        nifti.check_pair(image, other)
    moved = STEP.copy()
    moved[0, 3] = 4
    with pytest.raises(UserError, match="moved_mask.*different affines"):
        nifti.check_pair(image, nifti.Volume(noise(), moved, "moved_mask"))
    # Hundredths of a mm each, of many voxels.
    wide, finer = np.zeros((512, 2, 2)), STEP.copy()
    finer[0, 0] += 0.009
    with pytest.raises(UserError, match="lie up to 4.6 mm apart"):
        nifti.check_pair(
            nifti.Volume(wide, STEP, "a"), nifti.Volume(wide, finer, "b")
        )


def test_labels_must_be_known():
    data = np.zeros((3, 3, 3), np.uint8)
    data[1, 1, 1], data[0, 0, 0] = 2, 5
    mask = nifti.Volume(data, STEP, "mask_3")
    labels = nifti.labels_of(mask, {2, 5})
    np.testing.assert_array_equal(labels, data)
    with pytest.raises(UserError, match="mask_3 has the label 5"):
        nifti.labels_of(mask, {1, 2})
    with pytest.raises(UserError, match="mask_3.*whole numbers"):
        nifti.labels_of(mask._replace(data=data + 0.5), {2, 5})
    # Wider numbers must fit: 2^32 + 2 is no 2.
    wide = data.astype(np.int64)
    np.testing.assert_array_equal(nifti.whole(mask._replace(data=wide)), data)
    with pytest.raises(UserError, match="mask_3.*whole numbers"):
        nifti.whole(mask._replace(data=wide + (1 << 32)))


def test_masks_stored_with_a_scale_are_read():
    """As nibabel does with numbers that are not whole in whole voxels."""
    labels = np.random.default_rng(0).integers(0, 4, (6, 6, 6))
    kept = nibabel.Nifti1Image(np.zeros((6, 6, 6), np.uint8), STEP).header
    image = nibabel.Nifti1Image(labels.astype(float), STEP, kept)
    read = nifti.read(image.to_bytes(), "mask")
    assert not np.array_equal(read.data, labels)
    np.testing.assert_array_equal(nifti.labels_of(read, {1, 2, 3}), labels)


@pytest.mark.parametrize("axes", ["RAS", "LPS", "SAR", "PIL"])
def test_a_patch_is_the_same_however_a_volume_is_stored(axes):
    """Storing it in another order of axes moves no voxel in the world."""
    plain = nibabel.Nifti1Image(noise((16, 14, 12)), STEP)
    turn = nibabel.orientations.ornt_transform(
        nibabel.io_orientation(STEP),
        nibabel.orientations.axcodes2ornt(tuple(axes)),
    )
    turned = plain.as_reoriented(turn)
    assert "".join(nibabel.aff2axcodes(turned.affine)) == axes
    grid = nifti.grid_at(np.array([14.0, 12.0, 10.0]), (2.0, 3.0, 1.0), 6)
    one, two = (
        nifti.sample(np.asarray(x.dataobj), x.affine, grid)
        for x in (plain, turned)
    )
    assert one.std() > 1
    np.testing.assert_allclose(two, one, atol=1e-3)


def test_cells_stand_where_the_grid_says():
    """A ramp along x tells the place of each cell in mm."""
    ramp = np.broadcast_to(np.arange(20.0)[:, None, None], (20, 20, 20))
    grid = nifti.grid_at(np.array([19.0, 19.0, 19.0]), (1.0,) * 3, 8)
    found = nifti.sample(ramp, STEP, grid)
    # Voxel i lies at 2 i mm; cells at 15.5, 16.5, ...
    wanted = (15.5 + np.arange(8)) / 2
    np.testing.assert_allclose(found[:, 3, 4], wanted, atol=1e-5)
    # Outside of the volume there is nothing.
    far = nifti.grid_at(np.array([-99.0, 0, 0]), (1.0,) * 3, 8)
    assert not nifti.sample(ramp, STEP, far).any()


def test_there_and_back():
    """A grid over a whole volume holds all of it."""
    angle = np.deg2rad(25)
    affine = STEP.copy()
    affine[:2, :2] = 2 * np.array(
        [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    )
    x, y, z = np.indices((16, 14, 12))
    smooth = np.sin(x / 3) + np.cos(y / 4) * np.sin(z / 3)
    volume = nifti.Volume(smooth, affine, "turned")
    grid = nifti.grid_over(volume, (1.0,) * 3, 8)
    assert min(grid.shape) >= 8
    fine = nifti.sample(smooth, affine, grid)
    own = nifti.Grid(smooth.shape, affine)
    back = nifti.sample(fine, grid.affine, own)
    inner = (slice(1, -1),) * 3
    assert np.abs(back - smooth)[inner].max() < 0.1


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from([0.8, 1.2, 1.25, 1.6]),
    st.sampled_from([1.0, 2.0, 3.0]),
    st.floats(-200, 200),
)
def test_a_grid_of_the_voxels_own_size_loses_no_plane(size, times, origin):
    affine = np.diag([size, size, size * times, 1.0])
    affine[:3, 3] = origin
    shape = (9, 8, 7)
    grid = nifti.grid_over(
        nifti.Volume(np.zeros(shape), affine, "x"), (size,) * 3, 8
    )
    full = np.ones(grid.shape, np.float32)
    back = nifti.sample(full, grid.affine, nifti.Grid(shape, affine), order=1)
    # As read by `adapt`, where a half decides.
    assert (back > 0.5).all()


def test_intensities_are_levelled():
    data = np.linspace(-1000, 1000, 1000, dtype=np.float32).reshape(10, 10, 10)
    volume = nifti.Volume(data, STEP, "ct")
    bone = nifti.level(volume, (-100.0, 300.0))
    assert bone.min() == 0 and bone.max() == 1
    inside = (data > -100) & (data < 300)
    np.testing.assert_allclose(
        bone[inside], (data[inside] + 100) / 400, atol=1e-5
    )
    assert not nifti.level(volume._replace(data=0 * data)).any()
    # Half a percent at either end is not looked at.
    data[0, 0, :4], data[-1, -1, -4:] = -1e6, 1e6
    most = nifti.level(volume._replace(data=data))
    assert 0.4 < np.median(most) < 0.6 and most[0, 2, 0] < 0.1


def test_nothing_is_lost_between_coarse_cells():
    """Of a fine checkerboard each coarse cell sees both colours."""
    board = (np.indices((24, 24, 24)).sum(0) % 2).astype(np.float32)
    grid = nifti.grid_at(np.full(3, 23.0), (8.0,) * 3, 4)
    found = nifti.sample(board, STEP, grid)
    np.testing.assert_allclose(found, 0.5, atol=0.05)


def test_a_part_serves_as_the_whole():
    volume = nifti.Volume(noise((40, 40, 40)), STEP, "x")
    grid = nifti.grid_at(np.array([30.0, 40.0, 50.0]), (4.0,) * 3, 6)
    part = nifti.around(volume, grid)
    assert part.data.size < volume.data.size
    one, two = (nifti.sample(x.data, x.affine, grid) for x in (volume, part))
    np.testing.assert_allclose(one, two, atol=0.5)
