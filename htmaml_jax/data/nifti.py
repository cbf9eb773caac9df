"""NIfTI volumes: read, checked, placed on a grid of one's own.

All grids here are axes right, front, up (RAS) with a stated spacing. What is
wrong with a file is said with its name, before anything is computed from it.
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Collection
from typing import Any, NamedTuple

import nibabel
import numpy as np
import scipy.ndimage
from nibabel import processing

from htmaml_jax.errors import UserError

_DAMAGE = (
    OSError,
    EOFError,
    OverflowError,
    ValueError,
    zlib.error,
    nibabel.filebasedimages.ImageFileError,
    nibabel.spatialimages.HeaderDataError,
    nibabel.wrapstruct.WrapStructError,
)
# Other codes than these and that of mm mean nothing.
_UNITS = {1: "meter", 3: "micron"}
_GZIP = b"\x1f\x8b"
_LONG = 540  # bytes of the header of NIfTI-2; it begins with that number
_LARGEST = 1e30  # size of an intensity, within what 32 bits can hold


class Volume(NamedTuple):
    """A volume and where it lies.

    Attributes:
      data: [X, Y, Z].
      affine: [4, 4], from voxels to mm, axes right, front, up.
      name: of its file.
      header: of it: all that says where it lies, and in which unit.
    """

    data: np.ndarray
    affine: np.ndarray
    name: str
    header: Any = None


class Grid(NamedTuple):
    """Where a patch lies: cells along right, front, up.

    Attributes:
      shape: cells per axis.
      affine: [4, 4], from cells to mm.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray


def read(data: bytes, name: str) -> Volume:
    """Decodes a 3-D volume from the bytes of a .nii or .nii.gz.

    A fourth axis of length one, as some programs write, is left out.

    Raises:
      UserError: it is damaged, is not 3-D, has no size in mm, or has voxels
        that are not numbers.
    """
    try:
        plain = gzip.decompress(data) if data[:2] == _GZIP else data
        long = plain[:4] in (_LONG.to_bytes(4, x) for x in ("little", "big"))
        kind = nibabel.Nifti2Image if long else nibabel.Nifti1Image
        # As stored: loading an image sets sizes of 0 to 1.
        size = kind.header_class.template_dtype.itemsize
        header = kind.header_class(plain[:size], check=False)
        # Else a damaged header makes room for what it claims, however much.
        told = math.prod(map(int, header["dim"][1 : 1 + int(header["dim"][0])]))
        told = told * int(header["bitpix"]) // 8 + int(header["vox_offset"])
        if told > len(plain):
            raise ValueError(f"{told} bytes announced, {len(plain)} there")
        image = kind.from_bytes(plain)
        values = np.asarray(image.dataobj)
        sizes = np.asarray(header["pixdim"][1:4], float)
        unit = int(header["xyzt_units"]) % 8
    except _DAMAGE as error:
        said = " ".join(str(error).split())
        raise UserError(
            f"{name} is no whole NIfTI file ({said}); copy the data again."
        ) from error
    if values.dtype.kind not in "iufb":
        raise UserError(
            f"{name} has voxels of the type {values.dtype}; give one real "
            "number a voxel, not colours."
        )
    if values.ndim > 3 and set(values.shape[3:]) == {1}:
        values = values.reshape(values.shape[:3])
    if values.ndim != 3 or min(values.shape) < 1:
        shape = "x".join(map(str, values.shape))
        raise UserError(
            f"{name} is {values.ndim}-D ({shape}); a volume has three axes. "
            "Give one channel, or one point in time, a file."
        )
    # Some headers hold no usable transform: then there is no place in mm.
    turn = image.affine[:3, :3]
    usable = np.isfinite(image.affine).all() and (sizes > 0).all()
    if not usable or abs(np.linalg.det(turn)) < 1e-9:
        raise UserError(
            f"{name} has a voxel spacing of {sizes.tolist()}; each must be "
            "positive, and its affine invertible. Correct its header."
        )
    if unit in _UNITS:
        raise UserError(
            f"{name} counts space in units of a {_UNITS[unit]}; write it in mm."
        )
    usable = values.dtype.kind != "f" or np.abs(values) <= _LARGEST
    if not np.all(usable):  # NaN is not
        raise UserError(
            f"{name} has {int((~usable).sum())} voxels that are not finite "
            f"numbers (NaN, infinite, or beyond {_LARGEST:g}); replace them."
        )
    return Volume(values, image.affine, name, image.header)


def save(path: Any, mask: np.ndarray, image: Volume) -> None:
    """Writes a mask with all that the header of its image says of space."""
    made = nibabel.Nifti1Image(mask, image.affine)
    try:
        for get in ("qform", "sform"):
            # Readers differ in which of the two they go by.
            form, code = getattr(image.header, f"get_{get}")(coded=True)
            getattr(made, f"set_{get}")(form, int(code), update_affine=False)
        made.header.set_xyzt_units(*image.header.get_xyzt_units())
    except (ValueError, KeyError, nibabel.spatialimages.HeaderDataError):
        # One of the two is no rotation, or the unit unknown: as it was read.
        made = nibabel.Nifti1Image(mask, image.affine)
    nibabel.save(made, path)


def canonical(volume: Volume) -> Volume:
    """Returns the volume with its axes nearest to right, front, up."""
    kind = volume.data.dtype
    image = nibabel.Nifti1Image(volume.data, volume.affine, dtype=kind)
    image = nibabel.as_closest_canonical(image)
    return Volume(np.asarray(image.dataobj), image.affine, volume.name)


def check_pair(image: Volume, mask: Volume) -> None:
    """Refuses a mask that does not lie voxel on voxel on its image."""
    if image.data.shape != mask.data.shape:
        raise UserError(
            f"{mask.name} has the shape {mask.data.shape}, its image "
            f"{image.name} {image.data.shape}; a mask has a label for each "
            "voxel."
        )
    # At the corners: a small difference of sizes adds up from voxel to voxel.
    here, there = (corners(image, x.affine) for x in (image, mask))
    apart = np.linalg.norm(here - there, axis=1).max()
    if apart > spacing_of(image.affine).min() / 2:
        raise UserError(
            f"{mask.name} and its image {image.name} have different affines: "
            f"they lie up to {apart:.3g} mm apart. Resample one to the other."
        )


def whole(mask: Volume) -> np.ndarray:
    """Returns the labels [X, Y, Z] int32 of a mask; an image is refused."""
    if np.can_cast(mask.data.dtype, np.int32):
        return mask.data.astype(np.int32)
    with np.errstate(invalid="ignore"):  # what does not fit is seen below
        labels = np.rint(mask.data).astype(np.int32)
    # Programs that store a mask with a scale read 1 back as 1.00000006.
    if not np.allclose(labels, mask.data, rtol=0, atol=1e-3):
        raise UserError(
            f"{mask.name} has labels that are not whole numbers; it seems to "
            "be an image, or a mask that was resampled with interpolation."
        )
    return labels


def labels_of(mask: Volume, known: Collection[int]) -> np.ndarray:
    """Returns the labels [X, Y, Z] int32 of a mask; others are refused."""
    labels = whole(mask)
    strange = sorted(set(np.unique(labels).tolist()) - {0, *known})
    if strange:
        raise UserError(
            f"{mask.name} has the label {strange[0]}, which has no name; "
            f"known are {', '.join(map(str, sorted(known)))}."
        )
    return labels


def corners(volume: Volume, affine: np.ndarray) -> np.ndarray:
    """Returns where an affine puts the corners of a volume, [8, 3] mm."""
    last = np.array(volume.data.shape) - 1
    places = np.array(list(np.ndindex(2, 2, 2))) * last
    return nibabel.affines.apply_affine(affine, places)


def spacing_of(affine: np.ndarray) -> np.ndarray:
    """Returns the size of a voxel along its own axes, [3] mm."""
    return nibabel.affines.voxel_sizes(affine)


def level(
    volume: Volume, window: tuple[float, float] | None = None
) -> np.ndarray:
    """Maps intensities to [0, 1] float32.

    Args:
      volume: an image.
      window: lowest and highest Hounsfield units that matter, of CT; by
        default the 0.5 and 99.5 percentiles.
    """
    data = volume.data.astype(np.float32)
    low, high = window or np.percentile(data, (0.5, 99.5))
    return np.clip((data - low) / max(high - low, 1e-6), 0, 1)


def grid_at(centre: np.ndarray, spacing: np.ndarray, side: int) -> Grid:
    """Places a cube of cells around a point in mm."""
    spacing = np.broadcast_to(np.asarray(spacing, float), 3)
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = np.asarray(centre) - spacing * (side - 1) / 2
    return Grid((side, side, side), affine)


def grid_over(volume: Volume, spacing: np.ndarray, side: int) -> Grid:
    """Places a grid over a whole volume, at least `side` cells wide.

    It overhangs by half a cell at least: else rounding would leave the outer
    voxels out of it, when it is sampled in turn.
    """
    spacing = np.broadcast_to(np.asarray(spacing, float), 3)
    outer = corners(volume, volume.affine)
    low, high = outer.min(0), outer.max(0)
    cells = np.ceil((high - low) / spacing).astype(int) + 2
    cells = np.maximum(cells, side)
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = (low + high) / 2 - spacing * (cells - 1) / 2
    return Grid(tuple(int(n) for n in cells), affine)


def around(volume: Volume, grid: Grid) -> Volume:
    """Cuts out what `sample` looks at: a grid, and a few cells beside it."""
    shape = np.array(grid.shape)
    outer = np.array(list(np.ndindex(2, 2, 2))) * (shape + 7) - 4
    outer = nibabel.affines.apply_affine(grid.affine, outer)
    into = np.linalg.inv(volume.affine)
    outer = nibabel.affines.apply_affine(into, outer)
    last = np.array(volume.data.shape)
    low = np.clip(np.floor(outer.min(0)).astype(int), 0, last - 1)
    high = np.clip(np.ceil(outer.max(0)).astype(int) + 1, low + 1, last)
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ low
    part = tuple(map(slice, low, high))
    return volume._replace(data=volume.data[part], affine=affine)


def sample(
    data: np.ndarray, affine: np.ndarray, grid: Grid, order: int = 1
) -> np.ndarray:
    """Resamples [X, Y, Z] to a grid; outside of it there is 0.

    Before it is made coarser it is blurred, with a deviation of half the
    voxels that are skipped, so that nothing is lost between cells.
    """
    if order:
        data = data.astype(np.float32)
        # How many voxels a cell spans along each axis of the volume.
        into = np.linalg.inv(affine[:3, :3]) @ grid.affine[:3, :3]
        factor = np.linalg.norm(into, axis=1)
        data = scipy.ndimage.gaussian_filter(
            data, np.maximum(0, (factor - 1) / 2)
        )
    image = nibabel.Nifti1Image(data, affine, dtype=data.dtype)
    target = (grid.shape, grid.affine)
    made = processing.resample_from_to(image, target, order=order)
    return np.asarray(made.dataobj)
