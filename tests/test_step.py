"""The compiled meta-update: devices, chunks, traces, learning."""

import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.tree_util import tree_leaves_with_path as leaves_with_path
from test_meta_gradient import draw_meta

from htmaml_jax import config, systems
from htmaml_jax.episode import Batch, Episode
from htmaml_jax.hyper.rules import path_of
from htmaml_jax.run import mesh as meshes
from htmaml_jax.run import step
from htmaml_jax.run.optimizer import make_optimizer

WAY, QUERY, SIZE, CLASSES, TASKS = 3, 2, 8, 8, 8
# (devices, chunk) of the update; the first is what the others must equal.
SPLITS = [(1, 1), (2, 2), (4, 1), (8, 1)]
DOUBLE = [SPLITS[0], (8, 1)]
EVAL_SPLITS = [(1, 2), (8, 1)]
TOLERANCES = {"single": 1e-5, "double": 1e-10}
UPDATES = 20


def make_learner(dropout=0.0, gain=0.0):
    fields = config.default()
    fields.net.update(width=8, blocks=1)
    fields.embed.update(width=8, dim=8)
    fields.hyper.update(dim=8, layers=1, dropout=dropout)
    fields.inner.steps = 1
    fields.outer.augment.gain = gain
    return systems.build(fields, WAY)


def patterns():
    """Draws one picture per class."""
    shape = (CLASSES, SIZE, SIZE, 1)
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def episodes(shared, pieces):
    """Draws tasks on device: pictures of WAY classes, with noise."""

    def one(index):
        keys = jax.random.split(jax.random.fold_in(jax.random.key(7), index))
        classes = jax.random.permutation(keys[0], CLASSES)[:WAY]
        targets = jnp.tile(jnp.arange(WAY), 1 + QUERY)
        noise = jax.random.normal(keys[1], (len(targets), SIZE, SIZE, 1))
        inputs = shared[classes[targets]] + 0.5 * noise
        every = Batch(inputs, targets, jnp.ones(len(targets)))
        support, query = (
            jax.tree.map(lambda x, p=part: x[p], every)
            for part in (slice(WAY), slice(WAY, None))
        )
        return Episode(support, query, index, jnp.int32(0))

    return jax.vmap(one)(pieces)


def indices(update=0):
    return TASKS * update + np.arange(TASKS, dtype=np.int32)


def first_episode():
    batch = jax.eval_shape(episodes, patterns(), indices())
    return jax.tree.map(lambda x: jnp.zeros(x.shape[1:], x.dtype), batch)


def save_all(path):
    """Writes what every split of tasks over devices gives; needs 8 devices."""
    found = {}
    for precision in TOLERANCES:
        with jax.enable_x64(precision == "double"):
            for name, x in updates(precision).items():
                found[f"{precision}/{name}"] = np.asarray(x)
    for devices in (1, 8):
        found[f"losses/{devices}"] = losses_of(devices)
    np.savez(path, **found)


def losses_of(devices):
    """Trains for some updates with Adam; returns the losses."""
    learner = make_learner(dropout=0.1, gain=0.5)
    mesh = meshes.make_mesh(TASKS, devices)
    optimizer = make_optimizer(config.default().outer, UPDATES)
    key = jax.random.key(0)
    state = step.init_state(learner, optimizer, key, first_episode())
    state, key, shared = meshes.replicate(mesh, (state, key, patterns()))
    update = step.make_train_step(learner, optimizer, episodes, mesh, 1)
    losses = []
    for i in range(UPDATES):
        pieces = meshes.shard(mesh, indices(i))
        state, metrics = update(state, key, shared, pieces)
        losses.append(float(metrics["loss"]))
    return losses


def updates(precision):
    """Returns gradients and accuracies of every split."""
    real = np.float32 if precision == "single" else np.float64
    learner = make_learner(dropout=0.1, gain=0.5)
    rng = np.random.default_rng(1)
    meta = draw_meta(learner, first_episode(), rng)
    meta = jax.tree.map(lambda x: x.astype(real), meta)
    pictures = patterns().astype(real)
    # Its state is the gradient. Adam would blow up the rounding of entries
    # that vanish, and its first update has rate 0.
    optimizer = optax.trace(0.0)
    found = {}
    # Compiling is what takes the time: fewer splits in double precision.
    for devices, chunk in SPLITS if precision == "single" else DOUBLE:
        mesh = meshes.make_mesh(TASKS, devices)
        assert mesh.size == devices
        update = step.make_train_step(learner, optimizer, episodes, mesh, chunk)
        state = step.State(jnp.int32(0), meta, optimizer.init(meta))
        state, metrics = update(
            meshes.replicate(mesh, state),
            meshes.replicate(mesh, jax.random.key(3)),
            meshes.replicate(mesh, pictures),
            meshes.shard(mesh, indices()),
        )
        assert int(state.step) == 1
        name = f"{devices}x{chunk}"
        for keys, x in leaves_with_path(state.optimizer.trace):
            found[f"{name}/gradient/{path_of(keys)}"] = x
        for key, x in metrics.items():
            found[f"{name}/metrics/{key}"] = x
    for devices, chunk in EVAL_SPLITS if precision == "single" else ():
        mesh = meshes.make_mesh(TASKS, devices)
        found[f"{devices}x{chunk}/accuracy"] = step.make_eval_step(
            learner, episodes, mesh, chunk
        )(
            meshes.replicate(mesh, meta),
            meshes.replicate(mesh, pictures),
            meshes.shard(mesh, indices()),
        )
    return found


@pytest.mark.slow
def test_update_is_the_same_on_any_devices_and_chunks(tmp_path):
    """Runs this file as a program: devices are counted when JAX starts."""
    root = pathlib.Path(__file__).parents[1]
    path = tmp_path / "updates.npz"
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": "8",
        # It compiles a lot and computes little.
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "XLA_FLAGS": "",
        "PYTHONPATH": str(root),
    }
    command = [sys.executable, __file__, str(path)]
    done = subprocess.run(
        command, env=environment, cwd=root, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = dict(np.load(path))

    def group(precision, split, prefix):
        start = f"{precision}/{split[0]}x{split[1]}/{prefix}"
        return np.concatenate(
            [x.ravel() for k, x in sorted(found.items()) if k.startswith(start)]
        )

    names = [f"gradient/{x}/" for x in ("base", "hyper", "embed", "inner")]
    for precision, tolerance in TOLERANCES.items():
        for name in [*names, "metrics/"]:
            expected = group(precision, SPLITS[0], name)
            size = np.linalg.norm(expected)
            assert size > 1e-4
            for split in (SPLITS if precision == "single" else DOUBLE)[1:]:
                apart = group(precision, split, name) - expected
                error = np.linalg.norm(apart) / size
                assert error < tolerance, (precision, name, split, error)
    np.testing.assert_allclose(found["losses/8"], found["losses/1"], atol=1e-4)
    assert len(set(found["losses/1"])) == UPDATES
    expected, other = (group("single", x, "accuracy") for x in EVAL_SPLITS)
    assert expected.shape == (TASKS,)
    np.testing.assert_allclose(expected, other, atol=1e-6)
    # Else their order would be untested.
    assert len(set(expected)) > 1


@pytest.fixture
def compiled_quickly():
    """Spares most of the compiler's work, which is most of the test's."""
    name = "jax_disable_most_optimizations"
    before = jax.config.values[name]
    jax.config.update(name, True)
    yield
    jax.config.update(name, before)


@pytest.mark.usefixtures("compiled_quickly")
def test_training_learns_and_is_traced_once():
    updates, traces = 30, []

    def counted(shared, pieces):
        traces.append(1)
        return episodes(shared, pieces)

    learner = make_learner()
    outer = config.default().outer
    outer.rate = 1e-2
    optimizer = make_optimizer(outer, updates)
    mesh = meshes.make_mesh(TASKS, 1)
    key = meshes.replicate(mesh, jax.random.key(0))
    state = step.init_state(learner, optimizer, key, first_episode())
    state = meshes.replicate(mesh, state)
    shared = meshes.replicate(mesh, patterns())
    update = step.make_train_step(learner, optimizer, counted, mesh, TASKS)
    # No callback to the host hides in the program; on CPU nothing else would
    # show it, since there is no transfer to guard.
    pieces = meshes.shard(mesh, indices())
    text = update.lower(state, key, shared, pieces).as_text()
    assert "while" in text
    for word in ("callback", "infeed", "outfeed"):
        assert word not in text
    losses, counts = [], []
    for i in range(updates):
        pieces = meshes.shard(mesh, indices(i))
        state, metrics = update(state, key, shared, pieces)
        losses.append(float(metrics["loss"]))
        counts.append(len(traces))
    assert counts[-1] == counts[0] > 0
    # Nor was the one trace compiled twice, for two layouts of the state.
    assert update._cache_size() == 1
    assert int(state.step) == updates
    begin, end = np.mean(losses[:5]), np.mean(losses[-5:])
    print(f"loss {begin:.3f} -> {end:.3f}")
    assert end < 0.75 * begin


if __name__ == "__main__":
    save_all(sys.argv[1])
