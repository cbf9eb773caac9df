"""Episode sources: the same episodes from both, and few imports."""

import pathlib
import subprocess
import sys

import chex
import jax
import numpy as np
import pytest

from htmaml_jax.data import draw, find, sources
from htmaml_jax.errors import UserError

ROOT = pathlib.Path(__file__).parent.parent
FIXED = draw.Shape(2, 2, 3, 2, 2)
VARIED = draw.Shape(4, 3, 2, 2, 1)
SHARED = ("validation", FIXED), ("train", VARIED), ("test", FIXED)


@pytest.fixture(scope="module")
def tfdata():
    pytest.importorskip("tensorflow")
    from htmaml_jax.data.tfdata import tfdata

    return tfdata


def take(source, steps, first=0, count=4, **hosts):
    """Builds the episodes of the first steps from `first` on."""
    build = jax.jit(source.episodes)
    pieces = source.pieces(first, count, **hosts)
    return [
        jax.device_get(build(source.shared, next(pieces))) for _ in range(steps)
    ]


def join(*episodes):
    return jax.tree.map(lambda *x: np.concatenate(x), *episodes)


def test_device_gathers_the_drawn_examples(tiny_table):
    """Compares with draws on NumPy, one place after the other."""
    source = sources.device(tiny_table, VARIED, "train", 3)
    (got,) = take(source, 1, first=10)
    pool = draw.make_pool(tiny_table, "train", VARIED)
    assert set(got.support.mask.sum(1)) != {4 * 3}
    for at in range(4):
        drawn = draw.draw(np, pool, VARIED, 3, 0, 10 + at)
        assert got.index[at] == 10 + at
        for side, rows, mask in (
            (got.support, drawn.support, drawn.support_mask),
            (got.query, drawn.query, drawn.query_mask),
        ):
            places = [*np.ndindex(*rows.shape)]
            assert side.mask.shape == (4, len(places))
            for i, (slot, place) in enumerate(places):
                row = rows[slot, place]
                np.testing.assert_array_equal(
                    side.inputs[at, i], tiny_table.inputs[row]
                )
                assert side.targets[at, i] == slot
                assert side.mask[at, i] == mask[slot, place]


@pytest.mark.parametrize(("split", "shape"), SHARED)
def test_tfdata_equals_device(tiny_table, tfdata, split, shape):
    mine = take(sources.device(tiny_table, shape, split, 7), 3, first=5)
    theirs = take(tfdata(tiny_table, shape, split, 7), 3, first=5)
    chex.assert_trees_all_equal(mine, theirs)
    chex.assert_trees_all_equal_dtypes(mine, theirs)
    indices = [episode.index.tolist() for episode in mine]
    assert indices == [[5, 6, 7, 8], [9, 10, 11, 12], [13, 14, 15, 16]]


def test_other_seeds_give_other_episodes(tiny_table, tfdata):
    for make in (sources.device, tfdata):
        one, two = (
            take(make(tiny_table, VARIED, "train", seed), 1)[0]
            for seed in (0, 1)
        )
        np.testing.assert_array_equal(one.index, two.index)
        for at in range(4):
            assert (one.support.inputs[at] != two.support.inputs[at]).any()


@pytest.mark.parametrize("loader", ["device", "tfdata"])
def test_a_restart_equals_skipping(tiny_table, tfdata, loader):
    make = {"device": sources.device, "tfdata": tfdata}[loader]
    through = take(make(tiny_table, VARIED, "train", 0), 5)
    again = take(make(tiny_table, VARIED, "train", 0), 2, first=3 * 4)
    chex.assert_trees_all_equal(through[3:], again)


@pytest.mark.parametrize("loader", ["device", "tfdata"])
def test_hosts_share_the_work_in_order(tiny_table, tfdata, loader):
    make = {"device": sources.device, "tfdata": tfdata}[loader]
    source = make(tiny_table, VARIED, "train", 0)
    whole = take(source, 3, first=8)
    shares = [take(source, 3, first=8, host=h, hosts=2) for h in (0, 1)]
    assert shares[0][0].index.tolist() == [8, 9]
    for one, left, right in zip(whole, *shares, strict=True):
        chex.assert_trees_all_equal(one, join(left, right))


def test_the_config_names_the_source(tiny_table, tfdata):
    mine, theirs = (
        find.source(tiny_table, FIXED, "test", 2, loader)
        for loader in ("device", "tfdata")
    )
    assert mine.shared and not theirs.shared
    chex.assert_trees_all_equal(take(mine, 1), take(theirs, 1))


def test_sources_refuse_what_cannot_be_drawn(tiny_table, tfdata):
    for make in (sources.device, tfdata):
        with pytest.raises(UserError, match="'validation' of tiny has 2"):
            make(tiny_table, draw.Shape(3, 1, 1, 3, 1), "validation", 0)


# Each line may import no more than those before it did.
MODULES = """
import htmaml_jax
import htmaml_jax.config, htmaml_jax.cli, htmaml_jax.train as train
help(train)
import htmaml_jax.evaluate as evaluate
help(evaluate)
import htmaml_jax.systems
import htmaml_jax.run; walk(htmaml_jax.run)
import htmaml_jax.data.find, htmaml_jax.data.esc_tree
import htmaml_jax.data.clips, htmaml_jax.data.synthetic
"""
BANNED = "tensorflow", "tensorflow_datasets", "librosa", "torch"
SCRIPT = f"""
import importlib, pkgutil, sys

def help(door):
    try:
        door.main(["--help"])
    except SystemExit as stop:
        assert not stop.code
    assert "jax" not in sys.modules, "--help waits for jax"

def walk(package):
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(package.__name__ + "." + module.name)

for line in {MODULES.strip().splitlines()!r}:
    exec(line)
    found = set({BANNED!r}) & set(sys.modules)
    assert not found, (line, found)
assert "jax" in sys.modules
"""


def test_heavy_libraries_are_imported_only_when_used():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "configs/asc.py" in done.stdout
