"""Uses a trained model on one's own volumes: adapt, predict whole scans."""

from __future__ import annotations

import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from htmaml_jax import evaluate
from htmaml_jax.data import annotated, cache, cubes, nifti, paint
from htmaml_jax.data.annotated import Path
from htmaml_jax.episode import Batch
from htmaml_jax.errors import UserError

_TILES = 8  # per compiled call


class Segmented(NamedTuple):
    """What a model says of one volume.

    Attributes:
      item: path of the image.
      mask: [X, Y, Z] on the image's own grid; 1 is the structure, or of
        several those that were named have their labels.
      probability: [X, Y, Z] float32 of it, or [X, Y, Z, N] of each.
      image: where the image lies, without its voxels.
    """

    item: pathlib.Path
    mask: np.ndarray
    probability: np.ndarray
    image: nifti.Volume

    @property
    def affine(self) -> np.ndarray:
        """The image's [4, 4], from voxels to mm."""
        return self.image.affine

    def save(self, path: Path) -> None:
        """Writes the mask as NIfTI, to be laid over its image.

        Raises:
          UserError: it is no path of a .nii or .nii.gz in a folder.
        """
        path = pathlib.Path(path)
        if not path.name.endswith((".nii", ".nii.gz")):
            raise UserError(f"{path} must end in .nii or .nii.gz.")
        if not path.parent.is_dir():
            raise UserError(f"{path.parent} is not a folder; make it first.")
        nifti.save(path, self.mask, self.image)


class VolumeModel:
    """A meta-trained model of volumes; made by `adapt.load`.

    Attributes:
      window: of intensities, as in training; None for percentiles.
    """

    def __init__(
        self,
        meta: Any,
        config: Any,
        window: tuple[float, float] | None = None,
    ):
        """Takes a meta, its config, and the window of its images."""
        self._meta, self._config = meta, config
        self._side, self.window = config.data.side, window

    def adapt(
        self,
        support: Sequence[tuple[Path, Path]],
        label: int | Sequence[int] = 0,
        spacing: float | Sequence[float] = 0.0,
        window: tuple[float, float] | None = None,
    ) -> VolumeSpecialist:
        """Adapts to structures, given as pairs (image, mask) of files.

        Args:
          support: a few annotated volumes.
          label: of the structure in the masks; 0: all that is not 0. Or
            those of several, which each volume shows; a network that learned
            on one structure at a time adapts to each on its own.
          spacing: size of a cell in mm, or three, to the right, the front
            and up; 0: such that what is looked for is, on average, half as
            wide as the cube that the network sees.
          window: of intensities; by default that of Hounsfield units in
            training on CT alone, or else percentiles.

        Raises:
          UserError: a file that cannot be used, by name; a mask that does
            not fit its image or does not show the structure.
        """
        window = self.window if window is None else window
        annotated.check_options(label, spacing, window)
        labels = None if np.ndim(label) == 0 else tuple(map(int, label))
        pairs = annotated.read_pairs(support, labels or (int(label),))
        spacing = spacing if np.all(spacing) else self._fitting(pairs)
        images, masks = [], []
        for image, found in pairs:
            centre = cubes.middle(np.any(found, axis=0), image.affine)
            grid = nifti.grid_at(centre, spacing, self._side)
            bright = nifti.level(image, window)
            images.append(nifti.sample(bright, image.affine, grid))
            parts = cubes.parts_of(found, image.affine, grid)
            masks.append(parts.astype(np.int32))
            annotated.check_cube(
                images[-1], parts, len(found), image.name, spacing
            )
        batch = Batch(
            paint.standard(np, np.stack(images))[..., None],
            np.stack(masks),
            np.ones(len(pairs), np.float32),
        )
        learner = evaluate.build(self._config, len(labels or (label,)))
        from htmaml_jax.run import step

        log_odds = step.specialise(learner, self._meta, batch)
        return VolumeSpecialist(log_odds, self._side, spacing, window, labels)

    def _fitting(self, pairs):
        """Returns the spacing at which all structures fill half of a cube."""
        widest = [
            cubes.width_of(np.any(found, axis=0), image.affine)
            for image, found in pairs
        ]
        return round(float(2 * np.mean(widest) / self._side), 3)


class VolumeSpecialist:
    """A model adapted to structures of one's own.

    Attributes:
      spacing: mm per cell of what the network sees.
    """

    def __init__(self, log_odds, side, spacing, window, labels=None):
        self._log_odds, self._side = log_odds, side
        self.spacing, self._window = spacing, window
        self._labels = labels

    def predict(self, items: Iterable[Path]) -> list[Segmented]:
        """Segments whole volumes, each on its own.

        Raises:
          UserError: a file that cannot be used, by name, before any is
            segmented.
        """
        if isinstance(items, (str, pathlib.Path)):
            raise UserError(
                f"predict needs a list of files, such as [{items}]."
            )
        items = [pathlib.Path(item) for item in items]
        for item in items:
            annotated.read_file(item)
        return [self._segment(item) for item in items]

    def _segment(self, item):
        image = annotated.read_file(item)
        grid = nifti.grid_over(image, self.spacing, self._side)
        bright = nifti.level(image, self._window)
        coarse = nifti.sample(bright, image.affine, grid)
        odds = tiled(self._log_odds, coarse, self._side)
        own = nifti.Grid(image.data.shape, image.affine)
        place = image._replace(data=None)
        odds = [nifti.sample(x, grid.affine, own) for x in odds]
        odds = np.stack(odds, -1).astype(np.float32)
        if self._labels is None:
            odds = odds[..., 0]
            mask = (odds > 0.5).astype(np.uint8)
            return Segmented(item, mask, odds, place)
        numbers = np.array([0, *self._labels])
        numbers = numbers.astype(np.min_scalar_type(numbers.max()))
        rest = 1 - odds.sum(-1, keepdims=True)
        likeliest = np.concatenate([rest, odds], -1).argmax(-1)
        return Segmented(item, numbers[likeliest], odds, place)


def tiled(log_odds, volume: np.ndarray, side: int) -> np.ndarray:
    """Predicts a whole volume [X, Y, Z] by tiles that overlap by half.

    What they say is averaged with Gaussian weights around their middles, of
    a deviation of an eighth of their side (nnU-Net, Isensee et al., Nature
    Methods 2021).

    Args:
      log_odds: [n, side, side, side, 1] to log-probabilities [n, side, side,
        side, N] of structures.
      volume: at least `side` wide along each axis.
      side: of a tile.

    Returns:
      Probabilities [N, X, Y, Z].
    """
    far = (np.arange(side) - (side - 1) / 2) / (side / 8)
    line = np.exp(-(far**2) / 2)
    weight = line[:, None, None] * line[:, None] * line
    weight = np.maximum(weight, 1e-3)
    total, share = 0.0, np.zeros(volume.shape)
    places = list(_places(volume.shape, side))
    calls = cache.show_progress(range(0, len(places), _TILES), desc="tiles")
    for first in calls:
        mine = places[first : first + _TILES]
        tiles = np.stack([volume[place] for place in mine])
        tiles = paint.standard(np, tiles)[..., None]
        # Always as many, so that one program serves all.
        filled = np.resize(tiles, (_TILES, *tiles.shape[1:]))
        odds = np.exp(log_odds(filled.astype(np.float32)))
        if not first:
            total = np.zeros((odds.shape[-1], *volume.shape))
        for place, odd in zip(mine, odds, strict=False):
            total[:, *place] += weight * np.moveaxis(odd, -1, 0)
            share[place] += weight
    return total / share


def _places(shape, side) -> Iterator[tuple[slice, ...]]:
    """Yields the tiles that cover a volume."""
    starts = []
    for cells in shape:
        count = max(0, -(-2 * (cells - side) // side)) + 1
        starts.append(np.linspace(0, cells - side, count).round().astype(int))
    for corner in np.stack(np.meshgrid(*starts), -1).reshape(-1, 3):
        yield tuple(slice(c, c + side) for c in corner)
