"""The speed workloads in PyTorch, through five ways of doing MAML there.

Imports no jax. learn2learn 0.2.0 does not install on current Pythons, but its
MAML is plain Python on top of torch. Unpack its source and say where it is:

    pip download learn2learn==0.2.0 --no-deps --no-binary :all:
    tar xzf learn2learn-0.2.0.tar.gz
    export LEARN2LEARN=$PWD/learn2learn-0.2.0

`pip download` may end in an error after the archive was saved. higher 0.2.1
and torchopt 0.7.3 install with pip; where one is missing its row is empty.
"""

from __future__ import annotations

import importlib
import os
import pathlib
import sys
import types
from collections.abc import Callable
from typing import Any

import cases
import peer_nets
import torch
import torch.nn.functional as F
from cases import Case

DEFAULTS: dict[str, dict[str, Any]] = {
    "learn2learn": {"channels_last": 0},
    "higher": {"channels_last": 0},
    "torchopt": {"channels_last": 0},
    "torch_func": {
        "channels_last": 0,
        "chunk": None,
        "formula": 1,
        "compile": 0,
    },
    "autograd": {"channels_last": 0},
}
# Tasks per vmap where nothing else is asked. Tried on one CPU core: 1, 2, 4
# and 8 on W1 (4 and 8 equal), 1 to 32 on W2 (8 to 32 equal), 1 and 2 on W4,
# where 2 already take gigabytes. Channels-last gained nothing. compile=1 is
# torch.compile: on W2 a quarter faster after a minute and a half of compiling,
# on W1 not done after five minutes, hence off.
CHUNKS = {"W1": 4, "W2": 16, "W3": 2, "W4": 2}


def _one_by_one(network, data, task_loss):
    """Accumulates the gradients of one task after another."""
    optimizer = torch.optim.Adam(network.parameters(), lr=cases.OUTER_RATE)
    tasks = list(zip(*data, strict=True))

    def iterate():
        optimizer.zero_grad()
        total = 0.0
        for task in tasks:
            loss = task_loss(*task) / len(tasks)
            loss.backward()
            total += float(loss.detach())
        optimizer.step()
        return total

    return iterate


def learn2learn(case, network, data, settings):
    """Clones and adapts a module whose tensors are replaced."""
    maml = _load_learn2learn()(network, lr=case.size, first_order=False)

    def task_loss(x, y, query_x, query_y):
        learner = maml.clone()
        for _ in range(case.steps):
            learner.adapt(F.cross_entropy(learner(x), y))
        return F.cross_entropy(learner(query_x), query_y)

    return _one_by_one(network, data, task_loss)


def _load_learn2learn():
    folder = os.environ.get("LEARN2LEARN")
    if folder:
        # Its own __init__ files import data sets and games that are not
        # needed and do not import here: stand-ins keep them from running.
        for name in ("learn2learn", "learn2learn.algorithms"):
            package = types.ModuleType(name)
            where = pathlib.Path(folder, *name.split("."))
            package.__path__ = [str(where)]
            sys.modules[name] = package
    return importlib.import_module("learn2learn.algorithms.maml").MAML


def higher(case, network, data, settings):
    """Patches the module to be functional and unrolls its optimizer."""
    library = importlib.import_module("higher")
    inner = torch.optim.SGD(network.parameters(), lr=case.size)

    def task_loss(x, y, query_x, query_y):
        with library.innerloop_ctx(
            network, inner, copy_initial_weights=False
        ) as (functional, unrolled):
            for _ in range(case.steps):
                unrolled.step(F.cross_entropy(functional(x), y))
            return F.cross_entropy(functional(query_x), query_y)

    return _one_by_one(network, data, task_loss)


def torchopt(case, network, data, settings):
    """Steps with a differentiable optimizer, then restores the module."""
    library = importlib.import_module("torchopt")
    inner = library.MetaSGD(network, lr=case.size)
    keep = {"by": "reference", "detach_buffers": True}
    start = library.extract_state_dict(network, **keep)
    start_inner = library.extract_state_dict(inner, by="reference")

    def task_loss(x, y, query_x, query_y):
        for _ in range(case.steps):
            inner.step(F.cross_entropy(network(x), y))
        loss = F.cross_entropy(network(query_x), query_y)
        library.recover_state_dict(network, start)
        library.recover_state_dict(inner, start_inner)
        return loss

    return _one_by_one(network, data, task_loss)


def autograd(case, network, data, settings):
    """Differentiates with create_graph and calls the module functionally."""
    start = dict(network.named_parameters())

    def loss_of(params, x, y):
        logits = torch.func.functional_call(network, params, (x,))
        return F.cross_entropy(logits, y)

    def task_loss(x, y, query_x, query_y):
        params = start
        for _ in range(case.steps):
            grads = torch.autograd.grad(
                loss_of(params, x, y), list(params.values()), create_graph=True
            )
            params = {
                name: value - case.size * grad
                for (name, value), grad in zip(
                    params.items(), grads, strict=True
                )
            }
        return loss_of(params, query_x, query_y)

    return _one_by_one(network, data, task_loss)


def torch_func(case, network, data, settings):
    """Vmaps over chunks of tasks, one gradient per chunk."""
    start = dict(network.named_parameters())
    optimizer = torch.optim.Adam(list(start.values()), lr=cases.OUTER_RATE)
    chunk = settings["chunk"]
    if chunk is None:
        chunk = CHUNKS[case.name.partition("-")[0]]
    chunk = min(chunk or case.tasks, case.tasks)
    settings["chunk"] = chunk
    chunks = list(zip(*(x.split(chunk) for x in data), strict=True))

    def loss_of(params, x, y):
        logits = torch.func.functional_call(network, params, (x,))
        return F.cross_entropy(logits, y)

    def task_loss(params, x, y, query_x, query_y):
        for _ in range(case.steps):
            grads = torch.func.grad(loss_of)(params, x, y)
            params = {n: p - case.size * grads[n] for n, p in params.items()}
        return loss_of(params, query_x, query_y)

    def chunk_loss(params, *piece):
        axes = (None, 0, 0, 0, 0)
        each = torch.func.vmap(task_loss, in_dims=axes)(params, *piece)
        return each.sum() / case.tasks

    gradient = torch.func.grad_and_value(chunk_loss)
    if settings["compile"]:
        gradient = torch.compile(gradient)

    def iterate():
        optimizer.zero_grad()
        total = 0.0
        for piece in chunks:
            params = {n: p.detach() for n, p in start.items()}
            grads, loss = gradient(params, *piece)
            for name, grad in grads.items():
                old = start[name].grad
                start[name].grad = grad if old is None else old + grad
            total += float(loss)
        optimizer.step()
        return total

    return iterate


LIBRARIES = {
    f.__name__: f for f in (learn2learn, higher, torchopt, torch_func, autograd)
}


def prepare(
    case: Case, library: str, settings: dict, dtype: str, threads: int
) -> tuple[Callable[[], float], Callable[[], list[float]], dict]:
    """Builds a workload.

    Returns:
      a function that does one meta-iteration and returns its loss, one that
      after the first returns a sketch of its meta-gradient, and facts for
      the record.
    """
    if threads:
        torch.set_num_threads(threads)
    # As on the other side: float32 means float32 on every device.
    torch.backends.cudnn.allow_tf32 = False
    settings = {**DEFAULTS[library], **settings}
    kind = getattr(torch, dtype)
    network = peer_nets.make_network(case, kind, bool(settings.get("formula")))
    data = peer_nets.make_data(case, kind)
    if settings["channels_last"] and case.network != "mlp":
        is_volume = case.network == "unet"
        form = torch.channels_last_3d if is_volume else torch.channels_last
        network = network.to(memory_format=form)
        # So that each task's [B, C, *space] is a channels-last view.
        data[::2] = [
            x.movedim(2, -1).contiguous().movedim(-1, 2) for x in data[::2]
        ]
    iterate = LIBRARIES[library](case, network, data, settings)

    def first_sketch():
        def gradient(path):
            grad = peer_nets.parameter(network, path).grad.cpu().numpy()
            return peer_nets.from_torch_layout(case, path, grad)

        return cases.sketch(case, gradient)

    backend = "gpu" if peer_nets.DEVICE == "cuda" else "cpu"
    return iterate, first_sketch, {"settings": settings, "backend": backend}
