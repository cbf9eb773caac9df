"""The device mesh, and everything in JAX that changes with its version."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from htmaml_jax.errors import UserError

AXIS = "tasks"
REPLICATED, SHARDED = PartitionSpec(), PartitionSpec(AXIS)


def make_mesh(tasks: int, devices: int = 0) -> jax.sharding.Mesh:
    """Makes the 1-axis mesh over which tasks are spread.

    Args:
      tasks: tasks per step; the mesh takes the largest number of devices
        that divides it. 0 where any number does.
      devices: how many devices to use at most; 0 for all.

    Raises:
      UserError: several processes, and one of their devices would be idle.
    """
    # Those of a process side by side: its share of the tasks is one block
    # (`sources.local_share`), which jax.make_mesh would take apart on a TPU.
    available = sorted(jax.devices(), key=lambda d: (d.process_index, d.id))
    limit = min(devices or len(available), len(available))
    count = max(n for n in range(1, limit + 1) if tasks % n == 0)
    if jax.process_count() > 1 and count < len(available):
        raise UserError(
            f"{len(available)} devices of {jax.process_count()} processes "
            f"need a multiple of {len(available)} tasks, not {tasks}, and "
            "run.devices=0; set train.tasks."
        )
    return jax.sharding.Mesh(
        np.array(available[:count]), (AXIS,), axis_types=(AxisType.Auto,)
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
    """Puts a whole copy of `tree` on every device of every process."""
    where = NamedSharding(mesh, REPLICATED)
    if jax.process_count() == 1:
        return jax.device_put(tree, where)

    def put(x):
        if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(put(jax.random.key_data(x)))
        x = np.asarray(x)
        return jax.make_array_from_process_local_data(where, x, x.shape)

    return jax.tree.map(put, tree)


def shard(mesh: jax.sharding.Mesh, tree: Any) -> Any:
    """Splits the leading axis of every leaf over the devices."""
    return jax.tree.map(
        lambda x: jax.make_array_from_process_local_data(
            NamedSharding(mesh, SHARDED), x
        ),
        tree,
    )
