"""What one process of the speed comparison does: one library, one workload."""

from __future__ import annotations

import os
import pathlib
import platform
import resource
import statistics
import time
from collections.abc import Callable
from importlib import metadata
from typing import Any

import cases
import numpy as np

JAX = ("htmaml_jax", "jax_lax_conv")
TORCH = ("learn2learn", "higher", "torchopt", "torch_func", "autograd")


def work(job: dict[str, Any]) -> dict[str, Any]:
    """Does one job.

    Args:
      job: {library, settings, case, dtype, threads, iterations, limit}; the
        library "machine" measures the machine instead.

    Returns:
      facts for the record, or {missing: why the library does not import}.
    """
    use_threads(job["threads"])
    library, threads = job["library"], job["threads"]
    if library in TORCH:
        try:
            import peers

            case = cases.Case(**job["case"])
            ready = peers.prepare(
                case, library, job["settings"], job["dtype"], threads
            )
        except ImportError as error:
            return {"missing": str(error)}
        return _timed(job, *ready)
    set_up_jax(job["dtype"], job["settings"].get("devices", 1))
    import workloads

    if library == "machine":
        return workloads.describe_machine()
    case, dtype = cases.Case(**job["case"]), np.dtype(job["dtype"])
    ready = workloads.prepare(case, library, job["settings"], dtype)
    return _timed(job, *ready, workloads.device_peak_mb)


def use_threads(count: int) -> None:
    """Keeps this process on `count` cores; 0 for all."""
    if count and hasattr(os, "sched_setaffinity"):
        # XLA sizes its thread pool by the cores that a process may use.
        allowed = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, allowed[:count])


def set_up_jax(dtype: str = "float32", devices: int = 1) -> None:
    """Sets what must be set before the first array.

    Args:
      dtype: "float32" or "float64".
      devices: on CPU, how many devices to split the cores into.
    """
    import jax

    # Compile time is a result, and a cache would hide it.
    jax.config.update("jax_enable_compilation_cache", False)
    jax.config.update("jax_enable_x64", dtype == "float64")
    # Else an accelerator may round the inputs of float32 products.
    jax.config.update("jax_default_matmul_precision", "float32")
    if devices > 1:
        jax.config.update("jax_num_cpu_devices", devices)


def measure(
    iterate: Callable[[], Any], iterations: int, limit: float
) -> list[float]:
    """Times `iterations` calls, fewer if they take longer than `limit` s."""
    seconds: list[float] = []
    while len(seconds) < iterations and sum(seconds) < limit:
        start = time.perf_counter()
        iterate()
        seconds.append(time.perf_counter() - start)
    return seconds


def _timed(job, iterate, first_sketch, facts, device_peak_mb=None):
    start = time.perf_counter()
    loss = iterate()
    first = time.perf_counter() - start
    facts = {**facts, "loss": loss, "sketch": first_sketch()}
    # The first call of a short workload still allocates and warms up.
    if first < job["limit"] / 4:
        iterate()
    each = measure(iterate, job["iterations"], job["limit"])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    unit = 2**20 if platform.system() == "Darwin" else 2**10
    facts |= {
        "seconds": statistics.median(each),
        "fastest": min(each),
        "iterations": len(each),
        "peak_mb": peak / unit,
        "versions": _versions(job["library"]),
    }
    if device_peak_mb and device_peak_mb() is not None:
        facts["device_peak_mb"] = device_peak_mb()
    return facts


def _versions(library):
    found = {}
    for name in ("torch" if library in TORCH else "jax", library):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            # Part of a framework, or read from a folder: see peers.py.
            folder = pathlib.Path(os.environ.get("LEARN2LEARN", "")).name
            if name == "learn2learn" and "-" in folder:
                found[name] = folder.rpartition("-")[2]
    return found
