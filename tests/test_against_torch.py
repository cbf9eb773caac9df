"""The meta-gradient against PyTorch, which shares no code with ours.

`benchmarks/torch_meta_gradient.py` wrote the numbers and says what they are.
"""

import contextlib
import pathlib

import jax
import numpy as np
import pytest

from htmaml_jax import config, systems
from htmaml_jax.episode import Batch, Episode
from htmaml_jax.hyper.rules import path_of

PATH = pathlib.Path(__file__).parent / "data" / "torch_meta_gradient.npz"
TOLERANCE = {32: 1e-4, 64: 1e-10}
# Leaves below this share of the whole gradient hold mostly rounding. The
# head's gradient is exactly zero: a column that all classes share cancels in
# the softmax.
TINY = 1e-4


@pytest.fixture(scope="module")
def stored():
    with np.load(PATH) as file:
        return dict(file)


@pytest.fixture(scope="module")
def learner(stored):
    fields = config.choose(config.default(), "maml")
    fields.net.update(width=16, blocks=2, down="pool", norm="group")
    fields.net.pool = "flat"
    fields.inner.steps = len(stored["alpha/head/bias"])
    return systems.build(fields, way=5)


@pytest.fixture(scope="module")
def meta_gradient(learner):
    """One compiled function; masks are values, so both cases share it."""
    return jax.jit(jax.value_and_grad(learner.meta_loss, has_aux=True))


def precision(bits):
    return jax.enable_x64(True) if bits == 64 else contextlib.nullcontext()


def read_episode(stored, case, bits):
    def side(name):
        part = {x: stored[f"{case}/{name}/{x}"] for x in Batch._fields}
        part["inputs"] = part["inputs"].astype(f"float{bits}")
        return Batch(**part)

    return Episode(side("support"), side("query"), np.int32(0), np.int32(0))


def read_meta(stored, learner, episode, bits):
    """Puts the stored weights into the tree that `init` makes."""
    shapes = jax.eval_shape(learner.init, jax.random.key(0), episode)
    used = set()

    def read(prefix, tree):
        def leaf(keys, shape):
            name = f"{prefix}/{path_of(keys)}"
            used.add(name)
            assert stored[name].shape == shape.shape, name
            return stored[name].astype(f"float{bits}")

        return jax.tree_util.tree_map_with_path(leaf, tree)

    meta = {
        **shapes,
        "base": read("param", shapes["base"]),
        "inner": {"alpha": read("alpha", shapes["inner"]["alpha"])},
    }
    assert used == {x for x in stored if x.startswith(("param/", "alpha/"))}
    return meta


def norm(leaves):
    return np.sqrt(sum(np.sum(np.square(x, dtype=float)) for x in leaves))


def differences(ours, prefix, stored):
    """Returns (whole tree's, {path: leaf's}) relative differences."""
    pairs = {
        path_of(keys): (
            np.asarray(leaf, float),
            stored[f"{prefix}/{path_of(keys)}"].astype(float),
        )
        for keys, leaf in jax.tree_util.tree_leaves_with_path(ours)
    }
    apart = {path: norm([a - b]) for path, (a, b) in pairs.items()}
    sizes = {path: norm([b]) for path, (_, b) in pairs.items()}
    whole = norm(sizes.values())
    each = {
        path: apart[path] / size
        for path, size in sizes.items()
        if size > TINY * whole
    }
    return norm(apart.values()) / whole, each


@pytest.mark.parametrize("case", ["full", "padded"])
@pytest.mark.parametrize("bits", [32, 64])
def test_meta_gradient_is_that_of_torch(
    stored, learner, meta_gradient, case, bits
):
    limit = TOLERANCE[bits]
    with precision(bits):
        key = jax.random.key(0)
        episode = read_episode(stored, case, bits)
        meta = read_meta(stored, learner, episode, bits)
        (loss, _), gradient = meta_gradient(meta, episode, key)
        dtypes = {x.dtype for x in jax.tree.leaves((loss, gradient))}
    assert dtypes == {np.dtype(f"float{bits}")}
    assert float(loss) == pytest.approx(
        float(stored[f"{case}/loss{bits}"]), rel=limit
    )
    groups = (gradient["base"], "grad"), (gradient["inner"]["alpha"], "alpha")
    for group, name in groups:
        prefix = f"{case}/grad{bits}" + "_alpha" * (name == "alpha")
        whole, each = differences(group, prefix, stored)
        print(
            f"{case} float{bits} {name}: {whole:.1e}, largest of a leaf",
            f"{max(each.values()):.1e}",
        )
        assert len(each) >= 8, each
        assert whole < limit
        assert max(each.values()) < limit, each
