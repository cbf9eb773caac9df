"""The speed workloads in JAX: ours, and `lax.conv` under plain `vmap`."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import cases
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from cases import Case
from flax.traverse_util import flatten_dict, unflatten_dict

from htmaml_jax import cli
from htmaml_jax.episode import Batch, Episode
from htmaml_jax.inner import sgd
from htmaml_jax.nets.conv4 import ConvBody
from htmaml_jax.nets.mlp import DenseBody, Headed
from htmaml_jax.nets.norm import Norm
from htmaml_jax.nets.unet import UNet
from htmaml_jax.outer import gradients
from htmaml_jax.run import machine, step
from htmaml_jax.run import mesh as meshes

# What a library's settings are unless told otherwise, as in the package's
# config; chunk 0 is automatic.
DEFAULTS = {
    "htmaml_jax": {
        "gradient": "mixed",
        "chunk": 0,
        "devices": 1,
        "lowering": "auto",
    },
    "jax_lax_conv": {},
}


class LaxBody(nn.Module):
    """`ConvBody` from Flax's own convolution and pooling."""

    width: int
    blocks: int

    @nn.compact
    def __call__(self, x, mask=None, stored=False):
        """Maps [B, H, W, C] to features [B, F]."""
        for i in range(self.blocks):
            x = nn.Conv(self.width, (3, 3), name=f"conv{i}")(x)
            x = nn.relu(Norm("support", name=f"norm{i}")(x, mask, stored))
            x = nn.max_pool(x, (2, 2), (2, 2))
        return x.reshape(x.shape[0], -1)


def network(case: Case, lowering: str = "auto", ours: bool = True) -> nn.Module:
    """Builds the base network of a workload."""
    if case.network == "mlp":
        return Headed(DenseBody(case.width, 1), case.way)
    if case.network == "unet":
        shape = (case.width, cases.LEVELS, cases.GROUPS, lowering)
        return UNet(*shape, classes=case.way)
    if not ours:
        return Headed(LaxBody(case.width, cases.BLOCKS), case.way)
    body = ConvBody(case.width, cases.BLOCKS, norm="support", lowering=lowering)
    return Headed(body, case.way)


@dataclasses.dataclass(frozen=True, eq=False)
class Learner:
    """MAML with one fixed step size: all that a speed workload needs.

    Attributes:
      case: the workload.
      net: its network.
      gradient: one of `htmaml_jax.outer.gradients.MODES`.
    """

    case: Case
    net: nn.Module
    gradient: str = "plain"

    def meta_loss(
        self, meta: Any, episode: Episode, key: jax.Array, *rest: Any
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Returns the query loss after adapting."""
        gradient = gradients.inner_gradient(self._loss, self.gradient)
        start = flatten_dict(meta, sep="/")
        steps = sgd.init(start, self.case.steps, self.case.size)
        adapted = sgd.descend(gradient, start, steps, episode.support)
        loss = self._loss(adapted, episode.query)
        return loss, {"loss": loss}

    def _loss(self, params, batch):
        # Norm layers use the statistics of the batch they see, as in MAML.
        logits, _ = self.net.apply(
            {"params": unflatten_dict(params, sep="/")},
            batch.inputs,
            mutable=["batch_stats"],
        )
        # A product with constants: the gradient of an index is a scatter.
        picked = jax.nn.one_hot(
            batch.targets, self.case.way, dtype=logits.dtype
        )
        return -jnp.mean(jnp.sum(picked * jax.nn.log_softmax(logits), -1))


def params_of(case: Case, dtype: Any = np.float32) -> Any:
    """Returns the common weights as a pytree."""
    flat = {p: jnp.asarray(w, dtype) for p, w in cases.weights(case).items()}
    return unflatten_dict(flat, sep="/")


def batch_of(case: Case, dtype: Any = np.float32) -> Episode:
    """Returns the common episodes, with leading axes [T]."""

    def side(drawn: cases.Side) -> Batch:
        mask = np.ones(drawn.inputs.shape[:2], dtype)
        inputs = drawn.inputs.astype(dtype)
        return Batch(*map(jnp.asarray, (inputs, drawn.targets, mask)))

    index = jnp.arange(case.tasks, dtype=jnp.int32)
    support, query = map(side, cases.episodes(case))
    return Episode(support, query, index, jnp.zeros_like(index))


def build(
    case: Case, library: str, settings: dict, dtype: Any = np.float32
) -> tuple[Callable, tuple, dict]:
    """Makes one outer step and its arguments.

    Returns:
      jitted (state, key, shared, pieces) -> (state, metrics), those
      arguments, and the settings with what was automatic filled in.
    """
    settings = {**DEFAULTS[library], **settings}
    optimizer = optax.adam(cases.OUTER_RATE)
    params, batch = params_of(case, dtype), batch_of(case, dtype)
    state = step.State(jnp.zeros((), jnp.int32), params, optimizer.init(params))
    key = jax.random.key(0)
    if library == "jax_lax_conv":
        learner = Learner(case, network(case, ours=False))
        return (
            _plain_step(learner, optimizer),
            (state, key, (), batch),
            settings,
        )
    mesh = meshes.make_mesh(case.tasks, settings["devices"])
    net = network(case, settings["lowering"])
    learner = Learner(case, net, settings["gradient"])
    state, key = meshes.replicate(mesh, (state, key))
    arguments = (state, key, (), meshes.shard(mesh, batch))

    def make(chunk):
        return step.make_train_step(
            learner, optimizer, lambda _, piece: piece, mesh, chunk
        )

    settings["devices"] = mesh.size
    settings["chunk"] = machine.choose_chunk(
        case.tasks // mesh.size,
        settings["chunk"],
        0,
        lambda chunk: make(chunk).lower(*arguments).compile(),
    )
    return make(settings["chunk"]), arguments, settings


def _plain_step(learner, optimizer):
    """The step as one writes it first: the gradient of a mean over vmap."""

    def mean_loss(meta, batch, key):
        return jnp.mean(
            jax.vmap(lambda e: learner.meta_loss(meta, e, key)[0])(batch)
        )

    @jax.jit
    def train_step(state, key, shared, batch):
        loss, grads = jax.value_and_grad(mean_loss)(state.meta, batch, key)
        updates, inner = optimizer.update(grads, state.optimizer)
        meta = optax.apply_updates(state.meta, updates)
        metrics = {"loss": loss, "gradient_norm": optax.tree.norm(grads)}
        return step.State(state.step + 1, meta, inner), metrics

    return train_step


def compile_step(jitted: Callable, arguments: tuple) -> tuple[Callable, dict]:
    """Compiles a step and says what that took.

    Returns:
      the compiled step and {compile_s, temporary_mb, flops}; `flops` as XLA
      counts them: the body of a loop once, whatever its length.
    """
    start = time.perf_counter()
    compiled = jitted.lower(*arguments).compile()
    facts = {"compile_s": time.perf_counter() - start}
    memory = compiled.memory_analysis()
    if memory is not None:
        facts["temporary_mb"] = memory.temp_size_in_bytes / 2**20
    cost = compiled.cost_analysis() or {}
    facts["flops"] = cost.get("flops")
    return compiled, facts


def prepare(
    case: Case, library: str, settings: dict, dtype: Any = np.float32
) -> tuple[Callable[[], float], Callable[[], list[float]], dict]:
    """Compiles a workload.

    Returns:
      a function that does one meta-iteration and returns its loss, one that
      after the first returns a sketch of its meta-gradient, and facts for
      the record.
    """
    jitted, arguments, settings = build(case, library, settings, dtype)
    compiled, facts = compile_step(jitted, arguments)
    state, *rest = arguments

    def iterate():
        nonlocal state
        state, metrics = compiled(state, *rest)
        jax.block_until_ready(state)
        return float(metrics["loss"])

    def first_sketch():
        # After one step Adam's mean is a tenth of the gradient.
        mean = flatten_dict(state.optimizer[0].mu, sep="/")
        return cases.sketch(case, lambda path: 10 * np.asarray(mean[path]))

    facts |= {"settings": settings, "backend": jax.default_backend()}
    return iterate, first_sketch, facts


def device_peak_mb() -> float | None:
    """Returns the accelerator's peak memory, where its driver counts it."""
    stats = jax.devices()[0].memory_stats() or {}
    peak = stats.get("peak_bytes_in_use")
    return None if peak is None else peak / 2**20


def describe_machine() -> dict[str, Any]:
    """Returns what every result says of the machine and the code."""
    return {
        "hardware": machine.hardware(),
        "backend": jax.default_backend(),
        "card": jax.devices()[0].device_kind,
        "versions": cli.versions(),
        "commit": cli.commit(),
        "peak_gflops": matrix_peak(),
    }


def matrix_peak(size: int = 2048, repeats: int = 20) -> float:
    """Measures GFLOP/s of float32 matrix products, the best of `repeats`."""
    a = jnp.ones((size, size), jnp.float32)
    product = jax.jit(jnp.matmul)
    product(a, a).block_until_ready()
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        product(a, a).block_until_ready()
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best / 1e9
