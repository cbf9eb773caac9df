"""Mixtures: every task is of one domain, each domain counts the same."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from htmaml_jax import config, intervals
from htmaml_jax.data import draw, find, mixture, sources
from htmaml_jax.data.table import Scale, Table
from htmaml_jax.errors import UserError

SHAPE = draw.Shape(2, 1, 2, 2, 1)


def table_of(name, classes, each, level, kind=np.float32):
    """Makes a table whose pictures are all of one level."""
    labels = np.repeat(np.arange(classes, dtype=np.int32), each)
    inputs = np.full((len(labels), 2, 2, 1), level, kind)
    names = tuple(f"c{i}" for i in range(classes))
    third = classes // 3
    return Table(
        name=name,
        origin="tests",
        inputs=inputs,
        labels=labels,
        recordings=np.arange(len(labels), dtype=np.int32),
        classes=names,
        splits={
            "train": names[:third],
            "validation": names[third : 2 * third],
            "test": names[2 * third :],
        },
        licence="none",
        front_end={"level": level},
    )


@pytest.fixture(scope="module")
def mixed():
    return mixture.join(
        [
            table_of("bright", 6, 4, 1.0),
            table_of("dark", 12, 5, 51, np.uint8),
            table_of("grey", 9, 3, 0.5),
        ]
    )


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1))
def test_a_task_is_of_one_domain(mixed, seed, index):
    pool = draw.make_pool(mixed, "test", SHAPE)
    drawn = draw.draw(np, pool, SHAPE, seed, 2, index)
    classes = mixed.of_split("test")[drawn.classes]
    assert set(mixed.domain_of[classes]) == {int(drawn.domain)}
    for side in (drawn.support, drawn.query):
        heard = mixed.labels[side]
        assert (heard == classes[:, None]).all()
    alike = draw.domain_of(np, seed, 2, index, 3)
    assert alike == drawn.domain


def test_jax_draws_the_same_domains(mixed):
    pool = draw.make_pool(mixed, "train", SHAPE)
    index = np.arange(50, dtype=np.int32)
    one = jax.vmap(
        lambda pool, i: draw.draw(jnp, pool, SHAPE, 5, 0, i), (None, 0)
    )
    traced = jax.jit(one)(pool, index)
    plain = [draw.draw(np, pool, SHAPE, 5, 0, i) for i in index]
    plain = jax.tree.map(lambda *x: np.stack(x), *plain)
    chex.assert_trees_all_equal(jax.device_get(traced), plain)


def test_each_domain_is_as_likely(mixed):
    """However many classes it has: 3000 draws, four deviations."""
    of = find.domains(mixed, "test", 7, 3000)
    assert list(of) == ["bright", "dark", "grey"]
    counts = np.array([mine.sum() for mine in of.values()])
    assert counts.sum() == 3000
    assert (abs(counts - 1000) < 4 * np.sqrt(3000 * 2 / 9)).all()


def test_joining_keeps_examples_classes_and_splits(mixed):
    assert mixed.name == "bright+dark+grey"
    assert mixed.inputs.dtype == np.uint8
    for row in (0, 30, len(mixed.labels) - 1):
        name = mixed.classes[mixed.labels[row]].split(": ")[0]
        level = {"bright": 255, "dark": 51, "grey": 128}[name]
        assert (mixed.inputs[row] == level).all()
    assert len(set(mixed.recordings)) == len(mixed.recordings)
    assert [len(mixed.splits[s]) for s in draw.SPLITS] == [9, 9, 9]
    assert mixed.splits["test"][0] == "bright: c4"
    other = dataclasses.replace(mixed, domain_of=mixed.domain_of[::-1].copy())
    assert other.fingerprint != mixed.fingerprint


def test_scale_counts_each_domain_alike(mixed):
    """Levels 1, 0.2 and 128/255, whatever the number of examples."""
    scale = mixed.standardised().scale
    levels = np.array([1.0, 0.2, 128 / 255])
    np.testing.assert_allclose(scale.mean, [levels.mean()], rtol=1e-6)
    np.testing.assert_allclose(scale.deviation, [levels.std()], rtol=1e-4)


def test_sources_standardise_bytes(mixed):
    pytest.importorskip("tensorflow")
    from htmaml_jax.data.tfdata import tfdata

    table = mixed.standardised(Scale([0.5], [0.25]))
    device = sources.device(table, SHAPE, "test", 3)
    mine = jax.device_get(
        jax.jit(device.episodes)(
            device.shared, next(device.pieces(0, 12, 0, 1))
        )
    )
    levels = np.array([1.0, 0.2, 128 / 255])[mine.domain]
    wanted = (levels - 0.5) / 0.25
    for side in (mine.support, mine.query):
        got = side.inputs.reshape(12, -1)
        np.testing.assert_allclose(
            got, np.broadcast_to(wanted[:, None], got.shape), rtol=1e-5
        )
    assert len(set(mine.domain.tolist())) == 3
    host = tfdata(table, SHAPE, "test", 3)
    theirs = next(host.pieces(0, 12, 0, 1))
    chex.assert_trees_all_equal(mine, theirs)


def test_too_few_classes_names_the_domain(mixed):
    shape = draw.Shape(3, 1, 1, 3, 1)
    with pytest.raises(UserError, match="'test' of bright has 2"):
        draw.make_pool(mixed, "test", shape)


def test_pictures_of_two_sizes_are_refused():
    small = table_of("small", 3, 2, 1.0)
    large = dataclasses.replace(small, inputs=np.zeros((6, 3, 3, 1)))
    with pytest.raises(UserError, match="one size"):
        mixture.join([small, large])


@pytest.mark.parametrize(
    ("name", "domains", "text"),
    [
        ("omniglot+brain", 2, "'brain' is unknown"),
        ("omniglot+modes2", 2, "'modes2' is joined with nothing"),
        ("brains+brains", 2, "holds the same classes twice"),
        ("esc50+esc10", 2, "holds the same classes twice"),
        ("brains", 1, "no brains data: give --config.data.dir"),
    ],
)
def test_wrong_names_are_refused(name, domains, text, monkeypatch):
    monkeypatch.delenv("HTMAML_DATA", raising=False)
    data = config.default().data
    data.update(name=name, domains=domains)
    with pytest.raises(UserError, match=text):
        find.load(data)


def test_a_folder_without_the_data(tmp_path):
    data = config.default().data
    data.update(name="commands", dir=str(tmp_path))
    with pytest.raises(UserError, match="holds no clips; expected"):
        find.load(data)


def test_summary_of_values():
    values = np.array([0.2, 0.4, 0.6])
    half = 4.302653 * values.std(ddof=1) / np.sqrt(3)
    assert intervals.summary(values) == {"mean": 0.4, "ci95": round(half, 5)}
