"""Augmentation of volumes: image and mask move as one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from htmaml_jax import cli, config
from htmaml_jax.episode import Batch, Episode
from htmaml_jax.errors import UserError
from htmaml_jax.outer import volumes
from htmaml_jax.outer.augment import Strengths, augment

SIDE = 12


@pytest.fixture(scope="module")
def episode():
    """One structure, a box, in three volumes of the same noise."""
    rng = np.random.default_rng(0)
    mask = np.zeros((SIDE,) * 3, np.int32)
    mask[2:8, 3:9, 5:10] = 1
    image = rng.normal(size=(*mask.shape, 1)).astype(np.float32)

    def side(count):
        alike = [np.repeat(x[None], count, 0) for x in (image, mask)]
        return Batch(*map(jnp.asarray, alike), jnp.ones(count))

    return Episode(side(1), side(2), jnp.int32(0), jnp.int32(0))


def both(episode):
    return episode.support, episode.query


def made(episode, count, **strengths):
    change = jax.jit(lambda k: augment(episode, k, 1, Strengths(**strengths)))
    return [change(jax.random.key(seed)) for seed in range(count)]


def own_masks(episode):
    """Makes each image its own mask: both must stay equal."""
    support, query = (
        x._replace(inputs=x.targets[..., None].astype(jnp.float32))
        for x in both(episode)
    )
    return episode._replace(support=support, query=query)


def test_every_field_is_a_strength():
    assert set(config.default().outer.augment) == set(Strengths._fields)


def test_a_task_is_mirrored_and_turned_as_one(episode):
    seen = set()
    for new in made(own_masks(episode), 20, flip=0.5, turn=0.5):
        for side in both(new):
            np.testing.assert_array_equal(side.inputs[..., 0], side.targets)
            assert (side.targets == new.support.targets).all()
            assert side.targets[0].sum() == episode.support.targets.sum()
        seen.add(np.asarray(new.support.targets).tobytes())
    assert len(seen) > 5
    (negative,) = made(episode, 1, invert=0.999999)
    np.testing.assert_allclose(negative.query.inputs, -episode.query.inputs)
    np.testing.assert_array_equal(negative.query.targets, episode.query.targets)


def test_each_volume_is_bent_with_its_mask(episode):
    (one, two) = made(own_masks(episode), 2, affine=0.2, elastic=0.1)
    for side in both(one):
        assert side.targets.dtype == jnp.int32
        inside = np.asarray(side.inputs[..., 0]) > 0.5
        np.testing.assert_array_equal(inside, side.targets == 1)
        sizes = np.asarray(side.targets).sum((1, 2, 3))
        assert (sizes > 60).all() and (sizes < 500).all()  # of 180
    masks = np.concatenate([x.targets for x in (*both(one), *both(two))])
    assert len({mask.tobytes() for mask in masks}) == len(masks) == 6


@pytest.mark.parametrize("affine,elastic", [(0.2, 0.0), (0.0, 0.1)])
def test_how_far_cells_move(affine, elastic):
    """Coordinates for an image show where each cell was read."""
    shape = (SIDE, SIDE + 2, SIDE + 4)
    grid = np.moveaxis(np.indices(shape), 0, -1).astype(np.float32)
    middle = (np.array(shape) - 1) / 2
    # Near the middle, where nothing is read beyond the border.
    near = tuple(slice(n // 2 - 3, n // 2 + 3) for n in shape)
    away = (grid - middle)[near].reshape(-1, 3)
    bend = jax.jit(lambda k: volumes.bend(grid, grid[..., 0], k, 1, *how)[0])
    how, largest = (affine, elastic), []
    for seed in range(10):
        moved = (bend(jax.random.key(seed)) - grid)[near].reshape(-1, 3)
        change, *_ = np.linalg.lstsq(away, moved)
        linear = np.allclose(away @ change, moved, atol=1e-4)
        assert linear == (not elastic)
        shares = moved / np.array(shape) if elastic else change
        largest.append(np.abs(shares).max())
    top = affine or elastic
    assert top / 3 < np.mean(largest) and max(largest) <= top + 1e-4


def test_contrast_keeps_order_mean_and_deviation(episode):
    before = np.asarray(episode.query.inputs[0]).ravel()
    powers = []
    for new in made(episode, 4, gamma=0.5):
        np.testing.assert_array_equal(new.query.targets, episode.query.targets)
        for image in (*new.support.inputs, *new.query.inputs):
            x = np.asarray(image).ravel()
            assert (np.diff(x[np.argsort(before)]) > -1e-5).all()
            assert x.mean() == pytest.approx(before.mean(), abs=1e-4)
            assert x.std() == pytest.approx(before.std(), abs=1e-4)
            one, old = ((y - y.min()) / np.ptp(y) for y in (x, before))
            within = (old > 0.1) & (old < 0.9)
            power = np.log(one[within]) / np.log(old[within])
            assert np.ptp(power) < 1e-2
            powers.append(np.log(power.mean()))
    assert 0.2 < np.abs(powers).max() <= 0.5 + 1e-3
    assert min(powers) < 0 < max(powers) and len(set(powers)) == 12


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("seg3d", "outer.augment.affine=0.4", "affine is 0.4"),
        ("seg3d", "outer.augment.elastic=0.2", "elastic is 0.2"),
        ("seg3d", "outer.augment.gamma=-0.1", "gamma is -0.1"),
        ("asc", "outer.augment.affine=0.1", "affine.*are for volumes"),
        ("intent", "outer.augment.elastic=0.1", "elastic.*are for volumes"),
        ("regression", "outer.augment.gamma=0.1", "gamma.*for volumes"),
    ],
)
def test_what_means_nothing_is_refused(name, text, words):
    with pytest.raises(UserError, match=words):
        cli.read_config(f"configs/{name}.py:{text}", [])
