"""Where a meta-iteration spends its time, layer by layer:

    python benchmarks/parts.py W1 W3 W4

Every convolution of a workload alone, on one task's support set: the forward
pass, the gradients by kernel and by inputs, and of the forward pass the bare
copying (patches or blocks) and the bare product. Then norm, ReLU and pooling.
A meta-iteration is many of these, so the table says what a faster product, a
cheaper copy or a fused norm could gain.
"""

from __future__ import annotations

import ctypes
import math
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import cases
import speed
import worker


def keep_memory() -> None:
    """Keeps freed memory in the process, where the C library is glibc.

    A whole meta-iteration works in one buffer again and again; a layer alone
    would get new pages on every call, and wait for those most of all.
    """
    trim, mmap, most = -1, -3, 2**31 - 1
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    mallopt(trim, most)
    mallopt(mmap, most)


def best(function: Callable, *args: Any, seconds: float = 0.4) -> float:
    """Returns milliseconds of one call, the best of several rounds."""
    import jax

    run = jax.jit(function)
    jax.block_until_ready(run(*args))
    least, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        jax.block_until_ready(run(*args))
        least = min(least, time.perf_counter() - start)
    return 1e3 * least


def layer(case: cases.Case, shape: tuple, space: tuple) -> dict[str, Any]:
    """Times one convolution [*window, Cin, Cout] on maps of size `space`."""
    import jax
    import jax.numpy as jnp

    from htmaml_jax.nets import conv as convs
    from htmaml_jax.nets.norm import GroupNorm, Norm

    window, (cin, cout) = shape[:-2], shape[-2:]
    keys = jax.random.split(jax.random.key(0), 3)
    count = case.examples(case.shot)
    inputs = jax.random.normal(keys[0], (count, *space, cin))
    kernel = jax.random.normal(keys[1], shape)
    cotangent = jax.random.normal(keys[2], (count, *space, cout))
    strides = (1,) * len(window)

    def conv(inputs, kernel):
        return convs.conv(inputs, kernel, strides)

    def by(argnum):
        def pull(inputs, kernel, cotangent):
            _, back = jax.vjp(conv, inputs, kernel)
            return back(cotangent)[argnum]

        return pull

    operations = 2 * math.prod(shape) * math.prod(space) * count
    rows = math.prod(space) * count
    columns = math.prod(shape[:-1])
    flat = jnp.ones((rows, columns)), jnp.ones((columns, cout))
    if case.network == "unet":
        norm = GroupNorm(min(cases.GROUPS, cout))
        weights = norm.init(keys[0], cotangent)
        after = lambda x: jax.nn.relu(norm.apply(weights, x))  # noqa: E731
    else:
        norm = Norm("support")
        weights = norm.init(keys[0], cotangent, None, False)

        def after(x):
            x, _ = norm.apply(weights, x, None, False, mutable=["batch_stats"])
            return convs.max_pool(jax.nn.relu(x))

    found = {
        "product": best(lambda a, b: a @ b, *flat),
        "forward": best(conv, inputs, kernel),
        "by_kernel": best(by(1), inputs, kernel, cotangent),
        "by_inputs": best(by(0), inputs, kernel, cotangent),
        "norm_relu_pool": best(after, cotangent),
    }
    return {
        "shape": "x".join(map(str, shape)),
        "space": "x".join(map(str, space)),
        "gflop": operations / 1e9,
        "gflops_of_product": operations / found["product"] / 1e6,
        **found,
    }


def spaces(case: cases.Case) -> list[tuple]:
    """Lists the sizes of the maps of every convolution, in order."""
    found = []
    for one in cases.layers(case):
        if len(one.kernel) < 3:
            continue
        down = round(
            (math.prod(case.shape[:-1]) / one.positions)
            ** (1 / len(case.shape[:-1]))
        )
        found.append(tuple(n // max(down, 1) for n in case.shape[:-1]))
    return found


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Renders the layers as Markdown, milliseconds."""
    keys = ("product", "forward", "by_kernel", "by_inputs", "norm_relu_pool")
    lines = [
        "| kernel | map | GFLOP | product | forward | by kernel | by inputs | "
        "norm, ReLU, pool | GFLOP/s of the product |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [row["shape"], row["space"], f"{row['gflop']:.3f}"]
        cells += [f"{row[key]:.2f}" for key in keys]
        cells.append(f"{row['gflops_of_product']:.0f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> None:
    """Measures, prints tables and writes parts.json."""
    parser = speed.make_parser(__doc__)
    add = parser.add_argument
    add("workloads", nargs="*", default=["W1", "W3", "W4"])
    args = parser.parse_args(arguments)
    load = speed.warn_of_load()
    keep_memory()
    worker.use_threads(args.threads)
    worker.set_up_jax()
    import workloads

    result = {
        "workload": "parts",
        "threads": args.threads,
        "load": load,
        **workloads.describe_machine(),
        "command": shlex.join(["python", "benchmarks/parts.py", *arguments]),
        "runs": [],
    }
    for name in args.workloads:
        case = cases.CASES[name]
        kernels = [x.kernel for x in cases.layers(case) if len(x.kernel) > 2]
        rows = [
            layer(case, kernel, space)
            for kernel, space in zip(kernels, spaces(case), strict=True)
        ]
        result["runs"].append({"case": name, "layers": rows})
        print(f"\n{name}, milliseconds\n\n{table(rows)}", flush=True)
    speed.write(result, args.out, "parts")


if __name__ == "__main__":
    main(sys.argv[1:])
