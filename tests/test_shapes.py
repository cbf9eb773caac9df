"""Tests of drawn bodies: what a table of them holds."""

import numpy as np
import pytest
import tiny_volumes

from htmaml_jax.data import find, shapes

SIDE = 16
ROOMS = {"train": 2, "validation": 1, "test": 1}


def drawn(folder, side=SIDE):
    """Draws a few rooms anew."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HTMAML_CACHE", str(folder))
        patch.setattr(shapes, "_ROOMS", ROOMS)
        return find.load(tiny_volumes.settings("shapes", "", side=side))


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    return drawn(tmp_path_factory.mktemp("cache"))


def bodies(table):
    """Returns [M, D, H, W] bool: what each row is about."""
    mine = 1 + table.labels[:, None, None, None]
    return table.masks.masks == mine


def test_every_row_shows_its_body_where_a_cube_of_real_volumes_has_it(few):
    inside = bodies(few)
    assert few.masks.drawn.all() and inside.any((1, 2, 3)).all()
    beside = []
    for one in inside:
        places = np.argwhere(one)
        if places.min() > 0 and places.max() < SIDE - 1:
            middle = (places.min(0) + places.max(0)) / 2
            beside.append(middle - (SIDE - 1) / 2)
    assert len(beside) > 20
    # Three cells beside the middle at most, but for rounding.
    assert np.abs(beside).max() <= 4 and np.std(beside) > 1


def test_a_room_is_one_for_all_subjects_and_bent_for_each(few):
    inside = bodies(few)
    body = few.labels == np.bincount(few.labels).argmax()
    assert len(np.unique(few.recordings[body])) == body.sum() == 8
    sizes = inside[body].sum((1, 2, 3))
    assert len(np.unique(sizes)) > 1
    # Bodies differ in size by more than subjects do.
    log = np.log(inside.sum((1, 2, 3)))
    within = [np.std(log[few.labels == c]) for c in np.unique(few.labels)]
    assert np.mean(within) < 0.7 * np.std(log)


def test_tissues_tell_bodies_apart(few):
    """Where a body ends its tissue ends, and no other has the same."""
    for image, one in zip(few.inputs[..., 0], bodies(few), strict=True):
        (tissue,) = np.unique(image[one])
        assert not np.any(image[~one] == tissue)


def test_drawings_repeat_and_depend_on_the_side(few, tmp_path):
    again = drawn(tmp_path)
    np.testing.assert_array_equal(few.inputs, again.inputs)
    np.testing.assert_array_equal(few.masks.masks, again.masks.masks)
    assert again.fingerprint == few.fingerprint
    other = drawn(tmp_path, side=8)
    assert other.inputs.shape[1] == 8
    assert other.fingerprint != few.fingerprint


def test_no_room_is_of_two_splits(few):
    assert {k: len(v) for k, v in few.splits.items()} == {
        split: 4 * count for split, count in ROOMS.items()
    }
    rooms = [
        {few.classes[c].split("-")[1] for c in few.of_split(split)}
        for split in ROOMS
    ]
    assert [len(r) for r in rooms] == list(ROOMS.values())
    assert len(set.union(*rooms)) == 4
