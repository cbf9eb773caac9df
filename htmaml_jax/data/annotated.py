"""Annotated volumes that a model is adapted to: read, and refused."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from htmaml_jax.data import nifti, together
from htmaml_jax.errors import UserError

Path = str | pathlib.Path
# Labels of a mask: an atlas of the brain has some hundred, but who wants all
# that is not 0 has no such.
_MOST, _FEW = 300, 64


def check_options(label: Any, spacing: Any, window: Any) -> None:
    """Refuses what says wrongly how volumes are to be seen."""
    labels = np.ravel(label)
    several = np.ndim(label) > 0
    if labels.dtype.kind not in "iu" or labels.min() < several:
        raise UserError(
            f"label {label!r} must be the number of a structure in the masks, "
            "0 for all that is not 0, or several numbers above 0."
        )
    if len(set(labels.tolist())) < len(labels):
        raise UserError(f"label {label!r} must name structures, each once.")
    sizes = np.ravel(spacing)
    given = sizes.dtype.kind in "iuf" and np.isfinite(sizes).all()
    given = given and ((sizes > 0).all() or not sizes.any())
    if not given or len(sizes) not in (1, 3):
        raise UserError(
            f"spacing {spacing} must be one size of a cell in mm, or three; "
            "or 0, to fit what is looked for."
        )
    if window is not None:
        ends = np.ravel(window)
        pair = len(ends) == 2 and ends.dtype.kind in "iuf"
        if not pair or not ends[0] < ends[1]:
            raise UserError(f"window {window} must be (lowest, highest).")


def check_cube(
    seen: np.ndarray,
    parts: np.ndarray,
    structures: int,
    name: str,
    spacing: Any,
) -> None:
    """Refuses a support cube [D, H, W] that has nothing to learn from."""
    if len(together.shown(parts)) < structures:
        raise UserError(
            f"{name}: at a spacing of {spacing} mm its structure is smaller "
            "than the network can see, or not in its cube; give another "
            "spacing."
        )
    if (parts == 0).sum() < together.SMALLEST:
        raise UserError(
            f"{name}: at a spacing of {spacing} mm its structure fills all "
            "that the network sees; give a larger spacing, or a mask that has "
            "a background."
        )
    if np.ptp(seen) < 1e-6:
        raise UserError(
            f"{name}: all voxels around its structure are alike; give an image "
            "that shows it, or another window."
        )


def read_pairs(
    support: Sequence[tuple[Path, Path]], labels: Sequence[int]
) -> list[tuple[nifti.Volume, list[np.ndarray]]]:
    """Reads (image, [mask of each label])s; the label 0 is all but 0."""
    if not support or isinstance(support, (str, pathlib.Path)):
        raise UserError("adapting needs a list of pairs (image, mask).")
    pairs = []
    for item in support:
        if not isinstance(item, (tuple, list)) or len(item) != 2:
            raise UserError(f"{item} is no pair (image, mask).")
        image, mask = map(read_file, item)
        nifti.check_pair(image, mask)
        drawn = nifti.whole(mask)
        count = len(np.unique(drawn))
        if count > (_MOST if any(labels) else _FEW):
            raise UserError(
                f"{mask.name} has {count} different labels; it seems to be "
                "an image. A pair is (image, mask), in this order; of an "
                "atlas say which label."
            )
        found = [drawn == one if one else drawn != 0 for one in labels]
        for one, inside in zip(labels, found, strict=True):
            if not inside.any():
                wanted = f"the label {one}" if one else "any structure"
                raise UserError(
                    f"{mask.name} does not show {wanted}; a support volume "
                    "must."
                )
        pairs.append((image, found))
    return pairs


def read_file(path: Path) -> nifti.Volume:
    """Reads a NIfTI file, or says what is wrong with it."""
    if not isinstance(path, (str, pathlib.Path)):
        raise UserError(f"a {type(path).__name__} is no path of a NIfTI file.")
    path = pathlib.Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}).") from error
    return nifti.read(data, str(path))
