"""The device mesh, and everything in JAX that changes with its version."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

AXIS = "tasks"
REPLICATED, SHARDED = PartitionSpec(), PartitionSpec(AXIS)


def make_mesh(tasks: int, devices: int = 0) -> jax.sharding.Mesh:
    """Makes the 1-axis mesh over which tasks are spread.

    Args:
      tasks: tasks per step; the mesh takes the largest number of devices
        that divides it.
      devices: how many devices to use at most; 0 for all.
    """
    available = jax.devices()
    limit = min(devices or len(available), len(available))
    count = max(n for n in range(1, limit + 1) if tasks % n == 0)
    return jax.make_mesh(
        (count,),
        (AXIS,),
        axis_types=(AxisType.Auto,),
        devices=available[:count],
    )


def spread(
    mesh: jax.sharding.Mesh, function: Callable, in_specs: Any, out_specs: Any
) -> Callable:
    """Runs `function` on every device's share of the tasks."""
    return jax.shard_map(
        function,
        mesh=mesh,
        in_specs=in_specs,
        out_specs=out_specs,
        check_vma=False,
    )


def replicate(mesh: jax.sharding.Mesh, tree: Any) -> Any:
    """Puts a whole copy of `tree` on every device."""
    return jax.device_put(tree, NamedSharding(mesh, REPLICATED))


def shard(mesh: jax.sharding.Mesh, tree: Any) -> Any:
    """Splits the leading axis of every leaf over the devices."""
    return jax.tree.map(
        lambda x: jax.make_array_from_process_local_data(
            NamedSharding(mesh, SHARDED), x
        ),
        tree,
    )
