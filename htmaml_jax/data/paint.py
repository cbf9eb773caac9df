"""Images of volumes: real ones, and those drawn of tissues in each episode.

After the recipe of SynthSeg (Billot et al., Medical Image Analysis, 2023): a
normal distribution of intensities for each tissue, blur, a smooth bias field,
a random gamma, noise. One contrast is drawn for a task, as all its volumes
come from one kind of scanner, and is changed a little for each volume. Blur
differs by axis, as slices may be thick. The same code runs on NumPy and on
JAX, with words of the hash that draws episodes; numbers differ by rounding.
"""

from __future__ import annotations

import itertools

import numpy as np

from htmaml_jax.data.draw import normal, uniform

# FreeSurfer's numbers of the tissues in a label map; those of the right side
# are given the number of the left, as both look alike.
MIRROR = {
    41: 2, 42: 3, 43: 4, 44: 5, 46: 7, 47: 8, 49: 10, 50: 11, 51: 12, 52: 13,
    53: 17, 54: 18, 58: 26, 60: 28, 62: 30, 63: 31, 137: 136, 164: 163,
}  # fmt: skip
TISSUES = (
    0, 2, 3, 4, 5, 7, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18, 24, 25, 26, 28,
    30, 31, 57, 72, 77, 80, 85, 136, 163, 502, 506, 507, 508, 509, 511, 512,
    514, 515, 516, 530,
)  # fmt: skip
# White matter, grey matter, fluid; all others are of a kind of their own.
_KINDS = (
    (2, 7, 16, 28),
    (3, 8, 10, 11, 12, 13, 17, 18, 26),
    (4, 5, 14, 15, 24),
)
_KIND_OF = np.array(
    [
        next((k for k, of in enumerate(_KINDS) if tissue in of), 3 + i)
        for i, tissue in enumerate(TISSUES)
    ]
)
# Streams of random words.
(
    _OWN,
    _SHARED,
    _APART,
    _SPREAD,
    _TEXTURE,
    _CHANGE,
    _BLUR,
    _BIAS,
    _GAMMA,
    _NOISE,
    _LEVEL,
) = range(20, 31)
_KNOTS = 4  # of the bias field, per axis


def images(xp, examples, rows, key, first: int):
    """Makes standardised images [n, D, H, W, 1] of rows [n].

    Args:
      xp: `numpy` or `jax.numpy`.
      examples: see `sources.Examples`.
      rows: of the table.
      key: [] uint32, of the task.
      first: place of the first row among those of the task.
    """
    raw = examples.inputs[rows][..., 0]
    image = raw.astype(xp.float32) / 255
    if examples.drawn is not None:
        places = first + xp.arange(len(rows))
        painted = paint(xp, raw, key, places)
        drawn = examples.drawn[rows][:, None, None, None]
        image = xp.where(drawn, painted, image)
    return standard(xp, image)[..., None]


def standard(xp, image):
    """Standardises each image of [n, D, H, W] by its own voxels."""
    mean = xp.mean(image, (1, 2, 3), keepdims=True)
    spread = xp.std(image, (1, 2, 3), keepdims=True)
    return (image - mean) / xp.maximum(spread, 1e-3)


def paint(xp, tissues, key, places):
    """Draws images [n, D, H, W] float32 in [0, 1].

    Args:
      xp: `numpy` or `jax.numpy`.
      tissues: [n, D, H, W] integers, places in `TISSUES`.
      key: [] uint32, of the task.
      places: [n] integers, of the volumes in it.
    """
    count, *space = tissues.shape
    each = places[:, None]
    kinds = xp.arange(len(TISSUES))
    # Tissues of one kind are alike in many contrasts.
    own = 0.1 + 0.9 * uniform(xp, key, _APART)
    means = own * uniform(xp, key, _OWN, kinds)
    means += (1 - own) * uniform(xp, key, _SHARED, xp.asarray(_KIND_OF))
    means = means + 0.03 * normal(xp, key, _CHANGE, each, kinds)
    spreads = 0.1 * uniform(xp, key, _SPREAD, kinds)
    # Beside tissues there may be images, of which nothing is drawn.
    numbers = xp.minimum(tissues, len(TISSUES) - 1).astype(xp.int32)
    numbers = numbers.reshape(count, -1)
    voxels = xp.arange(numbers.shape[1])
    picture = xp.take_along_axis(means, numbers, axis=1)
    texture = normal(xp, key, _TEXTURE, each, voxels)
    picture = picture + spreads[numbers] * texture
    picture = picture.reshape(tissues.shape)
    width = 1.2 * uniform(xp, key, _BLUR, each, xp.arange(3))
    for axis in range(3):
        picture = _blur(xp, picture, width[:, axis])
    knots = normal(xp, key, _BIAS, each, xp.arange(_KNOTS**3))
    field = knots.reshape(count, *(_KNOTS,) * 3)
    for size in space:
        # Each turn takes the foremost axis and puts it last.
        field = xp.tensordot(field, xp.asarray(_between(size)), ((1,), (0,)))
    picture = picture * xp.exp(0.3 * field)
    low = xp.min(picture, (1, 2, 3), keepdims=True)
    high = xp.max(picture, (1, 2, 3), keepdims=True)
    picture = (picture - low) / xp.maximum(high - low, 1e-6)
    gamma = xp.exp(0.2 * normal(xp, key, _GAMMA, places))
    picture = xp.maximum(picture, 1e-6) ** gamma[:, None, None, None]
    noise = normal(xp, key, _NOISE, each, voxels).reshape(tissues.shape)
    level = 0.05 * uniform(xp, key, _LEVEL, places)
    return picture + level[:, None, None, None] * noise


def _blur(xp, x, width):
    """Blurs [n, D, H, W] along its first axis, which goes last.

    Deviations [n] are in cells. A product with a band of weights: shifted
    sums of numbers that are drawn would have XLA draw them for every shift.
    """
    size = x.shape[1]
    apart = (xp.arange(size)[:, None] - xp.arange(size)) ** 2
    apart = apart.astype(xp.float32)
    band = xp.exp(-apart / (2 * (width[:, None, None] ** 2 + 1e-2)))
    band = band / xp.sum(band, axis=1, keepdims=True)
    return xp.einsum("nxyz,nxw->nyzw", x, band)


def _between(size):
    """Returns [knots, size]: weights of linear interpolation."""
    place = np.linspace(0, _KNOTS - 1, size)
    apart = np.abs(place[None, :] - np.arange(_KNOTS)[:, None])
    return np.maximum(0, 1 - apart).astype(np.float32)


def codes(numbers: np.ndarray) -> np.ndarray:
    """Maps FreeSurfer's numbers to places in `TISSUES`, uint8."""
    known = sorted({*TISSUES, *MIRROR})
    table = np.zeros(known[-1] + 1, np.uint8)
    for number in known:
        table[number] = TISSUES.index(MIRROR.get(number, number))
    return table[numbers]


def known() -> frozenset[int]:
    """Returns the numbers that a label map may have."""
    return frozenset(itertools.chain(TISSUES, MIRROR))
