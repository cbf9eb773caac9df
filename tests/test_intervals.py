"""Intervals of means, and of what is between two systems."""

import json

import numpy as np
import pytest

from htmaml_jax import intervals, results


def test_paired_difference_averages_seeds_first():
    def result(values):
        same = dict.fromkeys(results.SAME, 0)
        return same | {"values": values}

    a = [result([1.0, 0.0, 1.0]), result([0.0, 0.0, 1.0])]
    b = [result([0.5, 0.5, 0.0])]
    mean, half = intervals.difference(a, b)
    assert mean == pytest.approx((0.0 - 0.5 + 1.0) / 3)
    deviation = np.std([0, -0.5, 1], ddof=1)
    assert half == pytest.approx(4.302653 * deviation / 3**0.5)


def test_one_episode_has_no_interval():
    """And JSON has no NaN."""
    found = intervals.summary(np.array([0.5]))
    assert found == {"mean": 0.5, "ci95": None}
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    shown = results.UNITS["accuracy"]
    assert shown.write(0.5, None) == "50.00 ± ?"
    assert (
        shown.write(0.5, intervals.half_width(np.ones(1)), "+") == "+50.00 ± ?"
    )
    assert shown.write(0.5, 0.0) == "50.00 ± 0.00"


def of_volumes(values, structures, subjects=None):
    """Returns a result of volumes; each structure is asked for as often."""
    by = {
        name: {
            "answers": 10,
            "volumes": {case: {"dice": x} for case, x in mine.items()},
        }
        for name, mine in structures.items()
    }
    told = {"by_structure": by, "subjects": subjects or {}}
    same = dict.fromkeys(results.SAME, 0) | {"metric": "dice"}
    return same | {"values": values, "surfaces": told}


def test_differences_of_volumes_count_each_volume_once():
    a = [of_volumes([0.5, 0.7, 0.6], {"rv": {"p1": 0.5, "p2": 0.7}})]
    a += [of_volumes([0.5, 0.9, 0.6], {"rv": {"p1": 0.5, "p2": 0.9}})]
    b = [of_volumes([0.4, 0.4, 0.4], {"rv": {"p1": 0.3, "p2": 0.6}})]
    # Of p1 0.5 minus 0.3, of p2 0.8 minus 0.6; the mean is of episodes.
    mean, half = intervals.difference(a, b)
    assert mean == pytest.approx((0.1 + 0.4 + 0.2) / 3)
    assert half == pytest.approx(0, abs=1e-9)
    half = 12.7062 * np.std([0.5, 0.8], ddof=1) / 2**0.5
    assert intervals.interval(a) == pytest.approx(half, 1e-4)
    said = results.compare(("x", a), ("y", b))
    assert said.endswith(
        "identical episodes, 2 and 1 training seeds), of 2 volumes"
    )


def test_intervals_of_volumes_are_over_subjects():
    """And what is between structures, which are given, is not in them."""
    dice = {"p1_1": 0.5, "p1_2": 0.7, "p2_1": 0.2, "p2_2": 0.4}
    subjects = {"p1_2": "p1_1", "p2_2": "p2_1"}
    one = of_volumes([0.4], {"heart: rv": dice}, subjects)
    wanted = 12.7062 * np.std([0.6, 0.3], ddof=1) / 2**0.5
    assert intervals.interval([one]) == pytest.approx(wanted, 1e-4)
    said = results.compare(("x", [one]), ("y", [one]))
    assert said.endswith("of 4 volumes of 2 subjects")
    high = {"heart: lv": {k: x + 0.3 for k, x in dice.items()}}
    two = of_volumes([0.4], {"heart: rv": dice, **high}, subjects)
    assert intervals.interval([two]) == pytest.approx(wanted, 1e-4)
    # Of a source with no variance half of the interval is left.
    even = {"brain: left": {"s1": 0.9, "s2": 0.9}}
    both = of_volumes([0.4], {"heart: rv": dice, **even}, subjects)
    assert intervals.interval([both], "heart") == pytest.approx(wanted, 1e-4)
    assert intervals.interval([both], "brain") == 0
    assert intervals.interval([both]) == pytest.approx(wanted / 2, 1e-4)
    # Of one subject nothing is known of others.
    alone = {"brain: left": {"s1": 0.9}}
    both = of_volumes([0.4], {"heart: rv": dice, **alone}, subjects)
    assert np.isnan(intervals.interval([both]))


def test_intervals_of_unequal_domains_hold_what_they_say():
    """Four subjects of one domain weigh as much as forty of another."""
    rng, inside = np.random.default_rng(0), 0
    for _ in range(400):
        few, many = rng.normal(size=4), rng.normal(size=40)
        found = of_volumes(
            [0.0],
            {
                "a: x": {f"a{i}": x for i, x in enumerate(few)},
                "b: x": {f"b{i}": x for i, x in enumerate(many)},
            },
        )
        middle = (few.mean() + many.mean()) / 2
        inside += abs(middle) < intervals.interval([found])
    assert 0.92 < inside / 400 < 0.98
