"""Draws: equal on NumPy and JAX, without leaks, and all as likely."""

import collections
import functools
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused

from htmaml_jax.data import draw
from htmaml_jax.data.table import Table
from htmaml_jax.errors import UserError

# Compiling takes long on a busy machine; a deadline would only be flaky.
slowly = functools.partial(settings, deadline=None, derandomize=True)
WORDS = st.integers(0, 2**31 - 1)
# Per class, the number of examples cut from each of its recordings.
SIZES = st.lists(
    st.lists(st.integers(1, 4), min_size=1, max_size=4),
    min_size=1,
    max_size=4,
)
UNEVEN = ((4, 1, 1, 1, 2), (1,) * 8, (3, 3, 3), (2, 1, 4, 2), (5, 1, 1, 1, 1))
VARIED = draw.Shape(4, 2, 2, 2, 1)


def table_of(sizes, order=0, apart=100):
    """Makes a table of shuffled rows.

    The recordings of class c are numbered from c * apart: with 0, classes
    share recordings.
    """
    labels = np.repeat(range(len(sizes)), [sum(some) for some in sizes])
    recordings = np.concatenate(
        [np.repeat(range(len(s)), s) + apart * c for c, s in enumerate(sizes)]
    )
    mixed = np.random.default_rng(order).permutation(len(labels))
    classes = tuple(f"class{i}" for i in range(len(sizes)))
    return Table(
        name="made-up",
        origin="tests",
        inputs=np.zeros((len(labels), 1, 1, 1), np.float32),
        labels=labels[mixed].astype(np.int32),
        recordings=recordings[mixed].astype(np.int32),
        classes=classes,
        splits={"train": classes, "test": classes[:1]},
        licence="none",
        front_end={},
    )


@st.composite
def shapes(draw_):
    way, shot = draw_(st.integers(1, 4)), draw_(st.integers(1, 3))
    return draw.Shape(
        way,
        shot,
        query=draw_(st.integers(1, 4)),
        min_way=draw_(st.integers(1, way)),
        min_shot=draw_(st.integers(1, shot)),
    )


@pytest.fixture(scope="module")
def uneven():
    return table_of(UNEVEN)


@functools.cache
def compiled(shape):
    """Compiles (pool, seed, split, indices [n]) -> draws [n, ...]."""

    def one(pool, seed, split, index):
        return draw.draw(jnp, pool, shape, seed, split, index)

    return jax.jit(jax.vmap(one, (None, None, None, 0)))


def stacked(pool, shape, seed, split, indices):
    """Draws on NumPy, one episode after the other."""
    draws = [draw.draw(np, pool, shape, seed, split, i) for i in indices]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *draws)


def accepted(table, shape):
    try:
        return draw.make_pool(table, "train", shape)
    except UserError:
        return None


def refuses(table, shape, *words, split="train"):
    refused(lambda: draw.make_pool(table, split, shape), *words)


@st.composite
def roomy(draw_):
    """Draws a shape, and sizes of classes with recordings enough for it."""
    shape = draw_(shapes())
    least = shape.shot + shape.query
    recordings = st.lists(st.integers(1, 4), min_size=least, max_size=least + 2)
    classes = st.lists(recordings, min_size=shape.way, max_size=shape.way + 2)
    return shape, draw_(classes)


@slowly(max_examples=10)
@given(roomy(), WORDS, WORDS, st.integers(0, 2))
def test_jax_equals_numpy_for_any_shape(roomy, seed, first, split):
    shape, sizes = roomy
    pool = accepted(table_of(sizes), shape)
    # A support of K spoils at most K recordings; Q others are left.
    assert pool is not None
    indices = np.array([first, first // 2, 0], np.int32)
    plain = stacked(pool, shape, seed, split, indices)
    traced = compiled(shape)(pool, seed, split, indices)
    chex.assert_trees_all_equal(plain, jax.device_get(traced))
    chex.assert_trees_all_equal_dtypes(plain, traced)


@slowly(max_examples=200)
@given(WORDS, WORDS, st.integers(0, 2))
def test_jax_equals_numpy_for_any_seed_and_index(seed, index, split):
    pool = draw.make_pool(table_of(UNEVEN), "train", VARIED)
    indices = np.array([index, index // 3], np.int32)
    chex.assert_trees_all_equal(
        stacked(pool, VARIED, seed, split, indices),
        jax.device_get(compiled(VARIED)(pool, seed, split, indices)),
    )


def test_jit_vmap_and_neither_agree(uneven):
    """Compares the ways to call draw on JAX, seeds as plain numbers too."""
    pool = draw.make_pool(uneven, "train", VARIED)
    here = jax.device_put(pool)
    plain = draw.draw(np, pool, VARIED, 5, 1, 77)
    eager = draw.draw(jnp, here, VARIED, 5, 1, 77)
    alone = jax.jit(lambda i: draw.draw(jnp, here, VARIED, 5, 1, i))(77)
    many = compiled(VARIED)(pool, 5, 1, np.arange(70, 80))
    for other in (eager, alone, jax.tree.map(lambda x: x[7], many)):
        chex.assert_trees_all_equal(plain, jax.device_get(other))


@given(st.lists(WORDS, min_size=1, max_size=4))
@slowly(max_examples=50)
def test_hash_is_lowbias32_on_plain_integers(words):
    """Recomputes the hash with Python's integers, which never wrap."""

    def mix(x):
        x = (x ^ (x >> 16)) * 0x7FEB352D & 0xFFFFFFFF
        x = (x ^ (x >> 15)) * 0x846CA68B & 0xFFFFFFFF
        return x ^ (x >> 16)

    state = 0
    for word in words:
        state = mix(((state ^ word) + 0x9E3779B9) & 0xFFFFFFFF)
    assert draw.hashed(np, *words).tolist() == [state]
    assert draw.hashed(jnp, *words).tolist() == [state]


def test_errors_name_split_and_class(uneven):
    refuses(uneven, draw.Shape(6, 1, 1, 6, 1), "'train'", "6-way", "5")
    refuses(uneven, draw.Shape(2, 1, 1, 2, 1), "'test'", split="test")
    # Only class 2 (recordings of 3, 3, 3) has fewer than 4 beside two.
    table = table_of([(1,) * 6, (1,) * 7, (3, 3, 3)])
    refuses(table, draw.Shape(2, 2, 4, 2, 2), "'class2'", "3 recordings")
    table = table_of([(1,) * 6, (9,)])
    refuses(table, draw.Shape(2, 1, 1, 2, 1), "'class1'")
    refuses(uneven, VARIED, "'dev'", "test, train", split="dev")


def test_masks_lie_within_bounds_and_reach_both(uneven):
    shape = draw.Shape(5, 3, 1, 2, 1)
    table = table_of([(1,) * 6] * 5)
    pool = draw.make_pool(table, "train", shape)
    sizes = collections.Counter()
    for index in range(400):
        drawn = draw.draw(np, pool, shape, 0, 0, index)
        ways = int(drawn.query_mask.any(1).sum())
        shots = int(drawn.support_mask[0].sum())
        # Real places come first and form a rectangle.
        there = np.arange(5)[:, None] < ways
        np.testing.assert_array_equal(
            drawn.support_mask, there & (np.arange(3) < shots)
        )
        np.testing.assert_array_equal(drawn.query_mask, there)
        sizes[ways, shots] += 1
    assert set(sizes) == set(itertools.product(range(2, 6), range(1, 4)))
    assert min(sizes.values()) > 400 / 12 / 2
    fixed = draw.Shape(3, 2, 2, 3, 2)
    drawn = draw.draw(
        np, draw.make_pool(uneven, "train", fixed), fixed, 0, 0, 0
    )
    assert drawn.support_mask.all() and drawn.query_mask.all()


def test_draws_depend_on_seed_split_and_index_alone(uneven):
    pool = draw.make_pool(uneven, "train", VARIED)

    def text(seed, split, index):
        drawn = draw.draw(np, pool, VARIED, seed, split, index)
        return repr([leaf.tolist() for leaf in drawn])

    words = [*itertools.product(range(4), range(3), range(8))]
    first = {word: text(*word) for word in words}
    # Another order of calls, and a pool made anew, change nothing.
    pool = draw.make_pool(table_of(UNEVEN), "train", VARIED)
    assert {w: text(*w) for w in reversed(words)} == first
    assert len(set(first.values())) == len(words)


def within(counts, share, total):
    """Checks counts against a binomial with five standard deviations."""
    spread = np.sqrt(total * share * (1 - share))
    np.testing.assert_array_less(np.abs(counts - total * share), 5 * spread)


def test_classes_and_examples_are_drawn_uniformly():
    total, shape = 6000, draw.Shape(3, 1, 2, 3, 1)
    table = table_of([(1,) * 6] * 7)
    pool = draw.make_pool(table, "train", shape)
    drawn = jax.device_get(compiled(shape)(pool, 1, 0, np.arange(total)))
    for slot in range(3):
        classes = np.bincount(drawn.classes[:, slot], minlength=7)
        within(classes, 1 / 7, total)
    pairs = np.zeros((7, 7))
    np.add.at(pairs, (drawn.classes[:, 0], drawn.classes[:, 1]), 1)
    assert not pairs.diagonal().any()
    within(pairs[~np.eye(7, dtype=bool)], 1 / 42, total)
    for rows in (drawn.support, drawn.query[..., :1], drawn.query[..., 1:]):
        within(np.bincount(rows.ravel(), minlength=42), 1 / 42, 3 * total)
    # What one class gives says nothing about what the next one gives.
    place = np.empty(42, int)
    place[pool.examples] = np.arange(6)
    pairs = np.zeros((6, 6))
    np.add.at(pairs, tuple(place[drawn.support[:, :2, 0]].T), 1)
    within(pairs, 1 / 36, total)
