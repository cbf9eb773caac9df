"""Gradient descent on the support set with learned step sizes.

What steps is a flat dict path -> array, the variables: all parameters of the
base network, some of them, or adapters beside them. Each update rule is a
pure function of its own learned numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

RULES = ("sgd", "curvature", "alfa")

Variables = dict[str, jax.Array]


def init(
    variables: Variables,
    steps: int,
    size: float,
    rule: str = "sgd",
    rates: str = "layer",
    key: jax.Array | None = None,
    width: int = 0,
) -> dict[str, Any]:
    """Returns what a rule learns.

    Args:
      variables: path -> array; the head with one column for all classes.
      steps: K.
      size: of the first steps.
      rule: "sgd". "curvature": the gradient of a matrix is multiplied on
        every side by a learned matrix, which starts as the identity
        (Meta-Curvature, Park and Oliva, 2019, eq. 5). "alfa": step size and
        weight decay of every tensor are generated at every step from the
        means of its values and gradients (Baik et al., NeurIPS 2020).
      rates: "layer": step sizes [K] per tensor, LSLR of MAML++ (Antoniou et
        al., 2019, §4). "fixed": of the same form, not learned. "weight":
        [K, ...], one per weight (Meta-SGD, Li et al., 2017). "task": as
        "layer", times what a network makes of the task, see `fitted`.
      key: for "alfa" and "task".
      width: of what says which task it is, for "task".

    Returns:
      {"alpha": step sizes, ...}, each a nested dict as parameters are.
    """

    def alpha(x):
        shape = (steps, *x.shape) if rates == "weight" else (steps,)
        return jnp.full(shape, size, x.dtype)

    alphas = unflatten_dict(jax.tree.map(alpha, variables), sep="/")
    learned: dict[str, Any] = {"alpha": alphas}
    if rule == "curvature":
        eyes = {
            path: [jnp.eye(n, dtype=x.dtype) for n in _sides(x)]
            for path, x in variables.items()
        }
        learned["curvature"] = unflatten_dict(eyes, sep="/")
    if rule == "alfa":
        count = 2 * len(variables)
        draw = jax.nn.initializers.he_normal()
        first, second = jax.random.split(key)
        learned["decay"] = jax.tree.map(lambda a: 5e-4 * a, learned["alpha"])
        learned["alfa"] = {
            "kernel0": draw(first, (count, count)),
            "bias0": jnp.zeros(count),
            # Zero, and the output counts from 1: the first steps are SGD's.
            "kernel1": 0 * draw(second, (count, count)),
            "bias1": jnp.zeros(count),
        }
    if rates == "task":
        draw = jax.nn.initializers.he_normal()
        count = steps * len(variables)
        learned["task"] = {
            "kernel0": draw(key, (width, width)),
            "bias0": jnp.zeros(width),
            # Zero: the first step sizes are the same for all tasks.
            "kernel1": jnp.zeros((width, count)),
            "bias1": jnp.zeros(count),
        }
    return learned


def fitted(
    learned: dict[str, Any],
    summary: jax.Array,
    strength: jax.Array | float = 1.0,
) -> dict[str, Any]:
    """Makes the step sizes of a task, of what was learned for "task".

    Args:
      learned: see `init`.
      summary: [width], the task embedding.
      strength: 0 leaves what all tasks have in common.

    Returns:
      What `descend` takes: alpha times exp(g), g [K] of each tensor.
    """
    net = learned["task"]
    x = jax.nn.relu(summary @ net["kernel0"] + net["bias0"])
    # As if it learned at a tenth of the rate: Adam moves a zero by as much
    # as any other weight, and each of them is in all step sizes.
    logs = 0.1 * strength * (x @ net["kernel1"] + net["bias1"])
    flat = flatten_dict(learned["alpha"], sep="/")
    factors = jnp.exp(logs.reshape(len(flat), -1))
    # In an order that does not change when meta goes through jit.
    flat = {k: flat[k] * factors[i] for i, k in enumerate(sorted(flat))}
    rest = {k: x for k, x in learned.items() if k != "task"}
    return {**rest, "alpha": unflatten_dict(flat, sep="/")}


def _sides(x):
    """Returns the sizes of the sides that a gradient is multiplied on.

    A kernel [*window, Cin, Cout] has three: window, Cin, Cout.
    """
    if x.ndim < 3:
        return x.shape
    return (x.size // (x.shape[-1] * x.shape[-2]), *x.shape[-2:])


def descend(
    gradient: Callable[[Any, Any], Any],
    variables: Variables,
    learned: dict[str, Any],
    data: Any,
    clip: float = 0.0,
    fade: jax.Array | float = 1.0,
    every: bool = False,
    unroll: int = 5,
) -> Any:
    """Takes K gradient steps.

    MAML's inner loop (Finn et al., 2017, eq. 1), repeated.

    Args:
      gradient: (variables, data) -> gradient of the support loss, made by
        `outer.gradients.inner_gradient`.
      variables: what to start from.
      learned: see `init`.
      data: what the support loss needs beside the variables.
      clip: largest entry of a gradient; 0 for no limit.
      fade: factor on all step sizes.
      every: return the variables after every step, [K, ...] each.
      unroll: up to so many steps are unrolled, which runs faster; more are
        scanned, which takes the memory and compile time of one.
    """
    flat = {k: flatten_dict(x, sep="/") for k, x in learned.items()}
    per_step = {k: flat[k] for k in ("alpha", "decay") if k in flat}

    def step(variables, now):
        grads = gradient(variables, data)
        if clip:
            grads = jax.tree.map(lambda g: jnp.clip(g, -clip, clip), grads)
        if "curvature" in flat:
            sides = flat["curvature"]
            grads = {k: _curve(g, sides[k]) for k, g in grads.items()}
        rate = decay = {path: 1.0 for path in variables}
        if "alfa" in flat:
            rate, decay = _alfa(flat["alfa"], variables, grads)
        new = {}
        for path, x in variables.items():
            move = rate[path] * now["alpha"][path] * grads[path]
            if "decay" in now:
                move += decay[path] * now["decay"][path] * x
            new[path] = x - fade * move
        return new

    steps = jax.tree.leaves(per_step)[0].shape[0] if variables else 0
    if steps > unroll:

        def scanned(variables, now):
            new = step(variables, now)
            return new, new if every else None

        last, all_of_them = jax.lax.scan(scanned, variables, per_step)
        return all_of_them if every else last
    passed = []
    for k in range(steps):
        now = jax.tree.map(lambda a, k=k: a[k], per_step)
        variables = step(variables, now)
        passed.append(variables)
    if every:
        return jax.tree.map(lambda *x: jnp.stack(x), *passed)
    return variables


def _curve(g, sides):
    """Multiplies a gradient on every side.

    A head has more columns (class slots) than its matrix; slots are alike,
    so that there the matrix is one number.
    """
    last = sides[-1]
    g = g @ last if last.shape[0] == g.shape[-1] else g * last[0, 0]
    if g.ndim == 1:
        return g
    into = sides[-2]
    g = jnp.swapaxes(jnp.swapaxes(g, -1, -2) @ into, -1, -2)
    if g.ndim > 2:
        window = g.shape[:-2]
        flat = g.reshape(-1, g.shape[-2] * g.shape[-1])
        g = (sides[0] @ flat).reshape(*window, *g.shape[-2:])
    return g


def _alfa(net, variables, grads):
    """Returns factors (of the step size, of the decay) per tensor."""
    paths = list(variables)
    means = [jnp.mean(variables[p]) for p in paths]
    means += [jnp.mean(grads[p]) for p in paths]
    x = jnp.stack(means)
    x = jax.nn.relu(x @ net["kernel0"] + net["bias0"])
    x = 1 + x @ net["kernel1"] + net["bias1"]
    count = len(paths)
    rate = {p: x[i] for i, p in enumerate(paths)}
    return rate, {p: x[count + i] for i, p in enumerate(paths)}
