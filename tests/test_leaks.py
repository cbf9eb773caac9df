"""Draws without leaks: no query from a recording that the support heard."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_draw import SIZES, WORDS, accepted, refuses, shapes, slowly, table_of

from htmaml_jax.data import draw


def check_no_leak(table, shape, drawn):
    """Checks one episode against what the table says."""
    for slot in range(shape.way):
        # Absent slots are held to the same rules as those that count.
        shots = drawn.support_mask.any(0)
        support, query = drawn.support[slot][shots], drawn.query[slot]
        rows = [*support, *query]
        assert len(set(rows)) == len(rows)
        assert set(table.labels[rows]) == {drawn.classes[slot]}
        heard = set(table.recordings[support])
        heard |= set(table.recordings[drawn.support[drawn.support_mask]])
        assert not heard & set(table.recordings[query])
    assert len(set(drawn.classes.tolist())) == shape.way


def safe_by_trial(table, shape):
    """Tries every support set of every class: are enough queries left?"""
    if shape.way > len(table.classes):
        return False
    for label in range(len(table.classes)):
        mine = table.recordings[table.labels == label].tolist()
        for support in itertools.combinations(mine, shape.shot):
            if sum(r not in support for r in mine) < shape.query:
                return False
        if len(mine) < shape.shot:
            return False
    return True


@slowly(max_examples=300)
@given(SIZES, shapes(), WORDS, st.integers(0, 99))
def test_pools_are_refused_exactly_when_a_draw_could_fail(
    sizes, shape, seed, order
):
    table = table_of(sizes, order)
    pool = accepted(table, shape)
    assert (pool is not None) == safe_by_trial(table, shape)
    for index in range(20 if pool else 0):
        check_no_leak(table, shape, draw.draw(np, pool, shape, seed, 0, index))


@pytest.mark.parametrize("query", [1, 2])
def test_no_leak_at_the_edge_of_what_is_accepted(query):
    """Draws where the largest recordings leave not one example to spare."""
    shape = draw.Shape(2, 2, query, 1, 1)
    edge = (4, 3) + (1,) * query
    table = table_of([edge, edge])
    pool = draw.make_pool(table, "train", shape)
    tight = 0
    for index in range(300):
        drawn = draw.draw(np, pool, shape, 3, 0, index)
        check_no_leak(table, shape, drawn)
        shots = drawn.support_mask.any(0)
        for support in drawn.support[:, shots]:
            tight += set(table.recordings[support] % 100) == {0, 1}
    assert tight > 20
    more = shape._replace(query=query + 1)
    refuses(table, more, "class0", "lower shot or query")


def test_no_leak_between_classes_heard_in_one_recording():
    sizes = ((2, 1, 1, 3, 1, 1, 1, 1), (1,) * 9, (2,) * 7)
    for shape in (draw.Shape(3, 1, 2, 2, 1), draw.Shape(2, 2, 1, 2, 1)):
        table = table_of(sizes, apart=0)
        pool = draw.make_pool(table, "train", shape)
        for index in range(200):
            drawn = draw.draw(np, pool, shape, 5, 0, index)
            check_no_leak(table, shape, drawn)
    # 9 examples: one for the support, two that other supports may spoil.
    refuses(table, draw.Shape(3, 1, 7, 3, 1))
    draw.make_pool(table_of(sizes), "train", draw.Shape(3, 1, 7, 3, 1))
