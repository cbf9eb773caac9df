"""What a run finds out about the machine it is on."""

from __future__ import annotations

import os
import pathlib
import platform
from collections.abc import Callable
from typing import Any

import jax

from htmaml_jax.errors import UserError
from htmaml_jax.run import hosts

# Of the free memory: the line through two sizes is not the whole truth.
_SHARE = 0.7


def use_cache() -> None:
    """Keeps compiled programs in the user's cache, unless told where."""
    if jax.config.jax_compilation_cache_dir:
        return
    home = os.environ.get("HTMAML_CACHE")
    if not home:
        base = os.environ.get("XDG_CACHE_HOME", "~/.cache")
        home = pathlib.Path(base).expanduser() / "htmaml_jax"
    jax.config.update(
        "jax_compilation_cache_dir", str(pathlib.Path(home) / "compiled")
    )


def choose_chunk(
    tasks: int,
    asked: int,
    stored: int,
    compiled: Callable[[int], Any] | None = None,
) -> int:
    """Picks how many of a device's tasks go through at a time.

    One on CPU, where it measured fastest. On an accelerator as many as its
    memory holds: the temporary memory of the compiled step is read for one
    and two tasks and continued as a line.

    Args:
      tasks: per device.
      asked: what the config says; 0 for a choice of the machine.
      stored: what an earlier session chose; 0 if there was none.
      compiled: chunk -> compiled step; without it, `stored` tasks are known
        to fit.

    Raises:
      UserError: what the config says does not divide the tasks.
    """
    if asked:
        if tasks % asked:
            raise UserError(
                f"run.chunk={asked} does not divide the {tasks} tasks per "
                "device; choose a divisor, or 0 for the machine's choice."
            )
        return asked
    divisors = [n for n in range(1, tasks + 1) if tasks % n == 0]
    if jax.default_backend() == "cpu":
        # An earlier session may have been on another kind of machine.
        return stored if stored in divisors and compiled else 1
    if stored in divisors or compiled is None or len(divisors) < 2:
        return max(n for n in divisors if n <= max(stored, 1))
    room = _SHARE * _free_memory()
    low, high = (_temporary(compiled(n)) for n in divisors[:2])
    slope = (high - low) / (divisors[1] - 1)
    fits = [n for n in divisors if low + slope * (n - 1) <= room]
    # All must compile the same program, whatever else fills their memory.
    return hosts.least(max(fits, default=1))


def _temporary(step):
    return step.memory_analysis().temp_size_in_bytes


def _free_memory():
    stats = jax.local_devices()[0].memory_stats() or {}
    return stats.get("bytes_limit", 0) - stats.get("bytes_in_use", 0)


def hardware() -> str:
    """Names the processor and the devices."""
    device = jax.devices()[0]
    if device.platform != "cpu":
        return f"{len(jax.devices())} x {device.device_kind}"
    name = platform.processor() or platform.machine()
    info = pathlib.Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # no such call outside Linux
        cores = os.cpu_count()
    return f"CPU, {cores} cores, {name}"
