"""What a run finds out about its machine."""

from __future__ import annotations

import dataclasses
import os
import types

import jax
import pytest

from htmaml_jax.errors import UserError
from htmaml_jax.run import hosts, machine, mesh


@dataclasses.dataclass(frozen=True)
class Device:
    """One of a pod, as far as a mesh asks."""

    process_index: int
    id: int
    platform: str = "tpu"
    device_kind: str = "TPU v5"
    client: object = None


def memory_of(fixed, each):
    """Makes chunk -> a compiled step that takes so much memory."""

    def compiled(chunk):
        size = fixed + each * chunk
        analysis = types.SimpleNamespace(temp_size_in_bytes=size)
        return types.SimpleNamespace(memory_analysis=lambda: analysis)

    return compiled


@pytest.fixture
def accelerator(monkeypatch):
    """Pretends to be a device with 1000 bytes, 100 of them taken."""
    stats = {"bytes_limit": 1000, "bytes_in_use": 100}
    device = types.SimpleNamespace(memory_stats=lambda: stats)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax, "local_devices", lambda: [device])


@pytest.mark.parametrize(
    ("fixed", "each", "want"),
    [(0, 1, 12), (30, 100, 6), (0, 200, 3), (0, 9e9, 1)],
)
def test_accelerators_take_what_fits(accelerator, fixed, each, want):
    """Seven tenths of 900 bytes may be filled."""
    assert machine.choose_chunk(12, 0, 0, memory_of(fixed, each)) == want


def test_accelerators_keep_what_an_earlier_session_chose(accelerator):
    assert machine.choose_chunk(12, 0, 4, memory_of(0, 9e9)) == 4
    # Evaluation has other numbers of tasks, and compiles nothing to ask.
    assert machine.choose_chunk(10, 0, 4) == 2
    assert machine.choose_chunk(10, 0, 64) == 10
    # Not a divisor any more, on other devices.
    assert machine.choose_chunk(6, 0, 4, memory_of(0, 1)) == 6


def test_processes_agree_on_what_fits(accelerator, monkeypatch):
    """Each asks its own device; all must compile the same program."""
    asked = []
    monkeypatch.setattr(hosts, "least", lambda x: asked.append(x) or 3)
    assert machine.choose_chunk(12, 0, 0, memory_of(30, 100)) == 3
    assert asked == [6]


def test_devices_of_a_process_lie_side_by_side(monkeypatch):
    """Or a process would work on tasks whose indices another has drawn."""
    pod = [Device(i % 2, i) for i in (7, 0, 3, 2, 1, 5, 4, 6)]
    monkeypatch.setattr(jax, "devices", lambda: pod)
    found = [d.id for d in mesh.make_mesh(8).devices]
    assert found == [0, 2, 4, 6, 1, 3, 5, 7]
    # Any number of devices that divides the tasks, not boxes alone.
    assert mesh.make_mesh(10).size == 5
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(UserError, match="need a multiple of 8 tasks, not 10"):
        mesh.make_mesh(10)


def test_the_cpu_takes_one_and_the_config_decides():
    assert machine.choose_chunk(12, 0, 0, memory_of(0, 1)) == 1
    assert machine.choose_chunk(12, 0, 4, memory_of(0, 1)) == 4
    assert machine.choose_chunk(40, 0, 4) == 1
    assert machine.choose_chunk(12, 6, 4, memory_of(0, 9e9)) == 6
    with pytest.raises(UserError, match="run.chunk=5 does not divide the 12"):
        machine.choose_chunk(12, 5, 0)


def test_cache_lies_with_the_user_unless_told_where(monkeypatch, tmp_path):
    before = jax.config.jax_compilation_cache_dir
    try:
        for name, folder in (
            ("XDG_CACHE_HOME", "htmaml_jax/compiled"),
            ("HTMAML_CACHE", "compiled"),
        ):
            jax.config.update("jax_compilation_cache_dir", None)
            monkeypatch.delenv("HTMAML_CACHE", raising=False)
            monkeypatch.setenv(name, str(tmp_path / name))
            machine.use_cache()
            wanted = str(tmp_path / name / folder)
            assert jax.config.jax_compilation_cache_dir == wanted
        # What the person told JAX itself stays.
        monkeypatch.setenv("HTMAML_CACHE", str(tmp_path))
        machine.use_cache()
        assert jax.config.jax_compilation_cache_dir == wanted
    finally:
        jax.config.update("jax_compilation_cache_dir", before)


def test_hardware_counts_cores_where_affinity_is_unknown(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 77)
    assert "77 cores" in machine.hardware()
