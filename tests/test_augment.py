"""outer/augment.py: what may change, and what must not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from htmaml_jax.episode import Batch, Episode
from htmaml_jax.outer.augment import Strengths, augment

WAY, ROWS, COLUMNS = 4, 10, 12
DRAWS = 30


def draw_episode(alike=False):
    """Draws an episode; `alike` makes all clips of a class one clip.

    The last example of either side is padding.
    """
    rng = np.random.default_rng(0)
    clips = rng.normal(size=(WAY, ROWS, COLUMNS, 1))

    def side(each):
        targets = np.tile(np.arange(WAY, dtype=np.int32), each)
        inputs = rng.normal(size=(len(targets), ROWS, COLUMNS, 1))
        if alike:
            inputs = clips[targets]
        mask = np.ones(len(targets), np.float32)
        mask[-1] = 0
        return Batch(inputs.astype(np.float32), targets, mask)

    return Episode(side(2), side(3), np.int32(5), np.int32(1))


def many(episode, **strengths):
    """Augments an episode under many keys: leaves are [DRAWS, ...]."""
    keys = jax.random.split(jax.random.key(1), DRAWS)
    # Not compiled as a whole: single operations compile once for all tests.
    run = jax.vmap(lambda k: augment(episode, k, WAY, Strengths(**strengths)))
    return jax.tree.map(np.asarray, run(keys))


def sides(old, new):
    """Yields every clip [H, W] before, and all draws of it after."""
    for name in ("support", "query"):
        before, after = getattr(old, name), getattr(new, name)
        for i, clip in enumerate(before.inputs):
            yield clip[..., 0], after.inputs[:, i, ..., 0]


def shifted(clip, by):
    """Moves a clip along the rows; the edge row fills the gap."""
    rows = np.clip(np.arange(ROWS) - by, 0, ROWS - 1)
    return clip[rows]


def test_no_strength_changes_nothing():
    episode = draw_episode()
    key = jax.random.key(0)
    result = augment(episode, key, WAY, Strengths())
    jax.tree.map(np.testing.assert_array_equal, result, episode)


def test_inputs_alone_change_and_only_with_the_key():
    episode = draw_episode()
    strengths = Strengths(0.5, 0.2, 0.2, 0.1, 0.3, 0.5, 0.2, 0.3)
    assert all(strengths[:8])  # others are for vectors and volumes
    one, again, other = (
        augment(e, jax.random.key(k), WAY, strengths)
        for e, k in (
            (episode, 0),
            # Randomness comes from the key, not from where a task stands.
            (episode._replace(index=np.int32(7), domain=np.int32(0)), 0),
            (episode, 1),
        )
    )
    for name in ("support", "query"):
        first, second, third = (getattr(x, name) for x in (one, again, other))
        before = getattr(episode, name)
        np.testing.assert_array_equal(first.inputs, second.inputs)
        assert first.inputs.shape == before.inputs.shape
        for x in (before, third):
            same = np.isclose(first.inputs, x.inputs).mean(axis=(1, 2, 3))
            assert np.all(same < 0.5)
        np.testing.assert_array_equal(first.targets, before.targets)
        np.testing.assert_array_equal(first.mask, before.mask)
    assert (one.index, one.domain) == (5, 1)


def test_classes_change_as_one_in_support_and_query():
    episode = draw_episode(alike=True)
    result = many(episode, reverse=0.5, shift=0.3)
    limit = int(0.3 * ROWS)
    found = set()
    for draw in range(DRAWS):
        for slot in range(WAY):
            clips = np.concatenate(
                [
                    side.inputs[draw][side.targets[draw] == slot]
                    for side in (result.support, result.query)
                ]
            )[..., 0]
            assert len(clips) == 5
            assert np.all(clips == clips[0])
            clip = episode.support.inputs[slot, ..., 0]
            options = {
                (reverse, by): shifted(clip[:, ::-1] if reverse else clip, by)
                for reverse in (False, True)
                for by in range(-limit, limit + 1)
            }
            match = [
                k for k, v in options.items() if np.array_equal(v, clips[0])
            ]
            assert len(match) == 1
            found.add((draw, slot, *match[0]))
    # Both directions, every shift, and classes of one episode that differ.
    assert {x[2] for x in found} == {False, True}
    assert {x[3] for x in found} == set(range(-limit, limit + 1))
    per_task = [{x[2:] for x in found if x[0] == d} for d in range(DRAWS)]
    assert sum(len(x) > 1 for x in per_task) > DRAWS / 2


def test_roll_is_circular_and_no_longer_than_stated():
    episode = draw_episode()
    limit = int(0.25 * COLUMNS)
    found = set()
    for clip, draws in sides(episode, many(episode, roll=0.25)):
        for new in draws:
            by = [
                k
                for k in range(-limit, limit + 1)
                if np.array_equal(np.roll(clip, k, axis=1), new)
            ]
            assert len(by) == 1
            found.add(by[0])
    assert found == set(range(-limit, limit + 1))


@pytest.mark.parametrize("field,axis", [("time_mask", 1), ("row_mask", 0)])
def test_masks_take_one_stretch_of_at_most_the_share(field, axis):
    episode = draw_episode()
    share = 0.3
    size = (ROWS, COLUMNS)[axis]
    longest = 0
    places = set()
    for clip, draws in sides(episode, many(episode, **{field: share})):
        for new in draws:
            gone = np.all(new != clip, axis=1 - axis)
            kept = np.all(new == clip, axis=1 - axis)
            assert np.all(gone | kept)
            where = np.flatnonzero(gone)
            places.update(where.tolist())
            longest = max(longest, len(where))
            if len(where):
                assert where[-1] - where[0] + 1 == len(where)
                masked = np.compress(gone, new, axis=axis)
                np.testing.assert_allclose(masked, clip.mean(), atol=1e-6)
    assert longest == int(share * size)
    assert places == set(range(size))


def test_gain_is_one_number_per_clip():
    episode = draw_episode()
    levels = []
    for clip, draws in sides(episode, many(episode, gain=0.2)):
        change = draws - clip
        assert np.max(np.ptp(change, axis=(1, 2))) < 1e-5
        levels += change.mean(axis=(1, 2)).tolist()
    assert -0.2 <= min(levels) < -0.15 and 0.15 < max(levels) <= 0.2
    assert len(set(levels)) == len(levels)


def test_padding_never_enters_the_mix():
    episode = draw_episode()
    for side in (episode.support, episode.query):
        side.inputs[side.mask == 0] = 1e6
    result = many(episode, mix=0.4)
    for old, new in (
        (episode.support, result.support),
        (episode.query, result.query),
    ):
        real = old.mask > 0
        assert np.max(np.abs(new.inputs[:, real])) < 10
        # Yet real clips do mix, and keep most of themselves.
        change = new.inputs[:, real] - old.inputs[real]
        assert np.max(np.abs(change)) > 0.1
        draws = new.inputs[:, real].swapaxes(0, 1)
        pool = old.inputs[real].reshape(sum(real), -1)
        for clip, each in zip(pool, draws, strict=True):
            # draw = (1 - w) clip + w other, with one w and one other.
            for draw in each.reshape(DRAWS, -1)[:5]:
                away = pool - clip
                w = away @ (draw - clip) / np.maximum((away**2).sum(1), 1e-9)
                off = np.abs(clip + w[:, None] * away - draw).max(axis=1)
                best = np.argmin(off)
                assert off[best] < 1e-4 and -1e-6 <= w[best] <= 0.4


def test_blend_mixes_every_class_with_one_other_by_one_weight():
    episode = draw_episode(alike=True)
    clips = episode.support.inputs[:WAY].copy().reshape(WAY, -1)
    for side in (episode.support, episode.query):
        side.inputs[side.mask == 0] = 1e6
    result = many(episode, blend=0.4)
    steps, weights = set(), []
    for draw in range(DRAWS):
        found = []
        for side in (result.support, result.query):
            for i in np.flatnonzero(side.mask[draw]):
                slot = side.targets[draw, i]
                new = side.inputs[draw, i].ravel()
                for step in range(1, WAY):
                    away = clips[(slot + step) % WAY] - clips[slot]
                    w = away @ (new - clips[slot]) / (away @ away)
                    off = np.abs(clips[slot] + w * away - new).max()
                    if off < 1e-4:
                        found.append((step, w))
        # One for each of the real examples, and all of them equal.
        assert len(found) == WAY * 5 - 2
        assert len({step for step, _ in found}) == 1
        assert np.ptp([w for _, w in found]) < 1e-4
        steps.add(found[0][0])
        weights.append(found[0][1])
    assert steps == set(range(1, WAY))
    assert -1e-4 <= min(weights) and 0.3 < max(weights) <= 0.4 + 1e-4


def test_vectors_are_blended_thinned_and_noisy():
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(2 * WAY, 400)).astype(np.float32)
    side = Batch(
        jnp.asarray(inputs),
        np.tile(np.arange(WAY, dtype=np.int32), 2),
        np.ones(2 * WAY, np.float32),
    )
    episode = Episode(side, side, np.int32(5), np.int32(1))
    thin = many(episode, drop=0.6)
    gone = thin.support.inputs == 0
    # The same numbers of every example of a task, of support and query.
    assert (gone == gone[:, :1]).all()
    np.testing.assert_array_equal(gone[:, 0], (thin.query.inputs == 0)[:, 0])
    share = gone[:, 0].mean(axis=1)
    assert 0.5 < share.max() <= 0.7 and share.min() < 0.1
    kept = np.sqrt(1 - share)
    # Lengths stay about what they were.
    size = np.linalg.norm(thin.support.inputs, axis=-1).mean(axis=1)
    whole = np.linalg.norm(inputs, axis=-1).mean()
    np.testing.assert_allclose(size / whole, 1, atol=0.1)
    assert kept.min() < 0.8  # else the last lines would say nothing
    noisy = many(episode, noise=0.5)
    apart = noisy.query.inputs - inputs
    assert abs(apart.std() / inputs.std() - 0.5) < 0.02
    assert (apart[:, 0] != apart[:, 1]).all()
    blended = many(episode, blend=0.5).support.inputs
    # Mixtures of two examples lie in the span of all, nowhere else.
    basis = np.linalg.qr(inputs.T)[0]
    flat = blended.reshape(-1, 400)
    np.testing.assert_allclose(flat @ basis @ basis.T, flat, atol=1e-4)
    assert np.abs(blended - inputs).max() > 0.5
