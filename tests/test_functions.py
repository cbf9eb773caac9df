"""Regression tasks: what was published, and the same from both sources."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from htmaml_jax import config, evaluate, train
from htmaml_jax.data import draw, find, functions
from htmaml_jax.data.functions import FAMILIES
from htmaml_jax.errors import UserError

SHAPE = draw.Shape(1, 10, 10, 1, 10)


def many(name, count=3000, seed=0, split=0):
    family = FAMILIES[name]
    made = jax.jit(
        jax.vmap(lambda i: functions.build(jnp, family, SHAPE, seed, split, i))
    )(jnp.arange(count))
    return jax.tree.map(np.asarray, made)


@settings(max_examples=20, deadline=None, derandomize=True, database=None)
@given(
    st.sampled_from(sorted(FAMILIES)),
    st.integers(0, 2**31 - 1),
    st.integers(0, 2),
    st.integers(0, 2**30),
)
def test_numpy_and_jax_make_the_same_task(name, seed, split, index):
    family = FAMILIES[name]
    seed = np.uint32(seed)
    ours = functions.build(np, family, SHAPE, seed, split, index)
    theirs = functions.build(jnp, family, SHAPE, seed, split, index)
    assert ours.domain == theirs.domain and ours.index == index
    for a, b in zip(
        jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True
    ):
        assert a.shape == b.shape and a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_tasks_fill_the_ranges_that_the_name_says(name):
    family, made = FAMILIES[name], many(name)
    counts = np.bincount(made.domain, minlength=family.kinds)
    assert len(counts) == family.kinds
    assert counts.min() > 0.8 * counts.mean()
    x = made.support.inputs[..., 0]
    assert x.shape == (3000, 10) and x.min() >= family.low and x.max() < 5
    assert abs(x.mean() - (family.low + 5) / 2) < 0.05
    if family.features == 2:
        second = made.support.inputs[..., 1]
        assert np.all(second[made.domain < 4] == 1)
        assert np.ptp(second[made.domain >= 4]) > 4.5
    # Support and query are other points of one function, in all splits.
    assert not np.any(made.support.inputs[..., 0] == made.query.inputs[..., 0])
    others = [many(name, 50, seed, split) for seed, split in ((1, 0), (0, 2))]
    for other in others:
        assert not np.any(other.support.targets == made.support.targets[:50])


def test_six_kinds_are_as_published():
    """Each is fitted by its formula, and what is left is the noise."""
    made = many("regression6-0-5")
    x, y = made.support.inputs, made.support.targets[..., 0]
    terms = {
        1: lambda a, b: [a, 1 + 0 * a],
        2: lambda a, b: [a**2, a, 1 + 0 * a],
        3: lambda a, b: [a**3, a**2, a, 1 + 0 * a],
        4: lambda a, b: [a**2, b**2],
    }
    limits = {1: [3, 3], 2: [0.2, 2, 3], 3: [0.1, 0.2, 2, 3], 4: [1, 1]}
    for kind, columns in terms.items():
        noise, found = [], []
        for x_i, y_i in zip(
            x[made.domain == kind], y[made.domain == kind], strict=True
        ):
            matrix = np.stack(columns(*x_i.astype(float).T), -1)
            best, left, *_ = np.linalg.lstsq(matrix, y_i, rcond=None)
            noise.append(left[0] / (len(y_i) - matrix.shape[1]))
            found.append(best)
        assert np.mean(noise) == pytest.approx(functions.NOISE**2, rel=0.08)
        if kind in (1, 4):  # well determined by ten points
            size = np.quantile(np.abs(found), 0.98, axis=0)
            np.testing.assert_allclose(size, limits[kind], rtol=0.15)
    sine, ripple = (y[made.domain == k] for k in (0, 5))
    assert 4.5 < np.abs(sine).max() < 5 + 5 * functions.NOISE
    assert 3 < np.abs(ripple).max() < 4 + 5 * functions.NOISE


def regression(**fields):
    chosen = config.default()
    chosen.data.update(
        name="regression6-0-5", way=1, shot=10, query=10, domains=6
    )
    return config.override(chosen, list(fields.items()))


def test_both_loaders_give_the_same_pieces_of_any_host():
    data = regression().data
    table = find.load(data).standardised()
    shape = find.fixed_shape(data)
    whole = find.source(table, shape, "train", 3, "device")
    tasks = whole.episodes(whole.shared, next(whole.pieces(8, 4)))
    parts = []
    for host in range(2):
        source = find.source(table, shape, "train", 3, "tfdata")
        pieces = source.pieces(4, 4, host, 2)
        next(pieces)
        parts.append(source.episodes(source.shared, next(pieces)))
    joined = jax.tree.map(lambda *x: np.concatenate(x), *parts)
    np.testing.assert_array_equal(joined.index, [8, 9, 10, 11])
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4),
        joined,
        tasks,
    )


def test_wrong_number_of_domains_is_refused():
    data = regression(**{"data.domains": "5"}).data
    with pytest.raises(UserError, match="makes 6; set it to that"):
        find.check_domains(data, find.load(data))


def test_blank_episode_has_the_shapes_of_tasks():
    data = regression().data
    blank = find.blank_episode(data)
    task = functions.build(np, FAMILIES[data.name], SHAPE, 0, 0, 0)
    assert jax.tree.map(np.shape, blank) == jax.tree.map(np.shape, task)


@pytest.mark.slow
def test_a_run_on_functions_ends_in_a_result(tmp_path):
    """From the first step to the judged tasks, as the door does it."""
    config_file = pathlib.Path(__file__).parent.parent / "configs/regression.py"
    chosen = "system=maml,steps=3,train.tasks=2,run.chunk=2,net.width=8"
    chosen += ",train.val_episodes=4,eval.episodes=12"
    run = tmp_path / "run"
    train.main([f"--config={config_file}:{chosen}", f"--workdir={run}"])
    result = json.loads((run / "result.json").read_text())
    assert (result["metric"], result["split"]) == ("mse", "test")
    assert len(result["values"]) == 12 and min(result["values"]) > 0
    assert result["by_domain"] == {}
    with pytest.raises(UserError, match=r"shape \(2,\); modes2 has \(1,\)"):
        evaluate.evaluate(run, overrides=[("data.name", "modes2")])
