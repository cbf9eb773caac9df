"""What a run finds out about the machine it is on."""

from __future__ import annotations

import os
import pathlib
import platform

import jax


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


def auto_chunk(tasks: int) -> int:
    """Picks how many of a device's tasks go through at a time.

    One on CPU, where it measured fastest; all of them on an accelerator,
    which has not been measured.
    """
    return 1 if jax.default_backend() == "cpu" else tasks


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
