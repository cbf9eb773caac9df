"""Several processes as one run: joining, speaking, waiting for each other.

Every process runs the same program on its share of the tasks. Files in the
workdir are written by the first one alone, but for checkpoints, where orbax
decides who writes.
"""

from __future__ import annotations

import jax
import numpy as np

from htmaml_jax.errors import UserError

FORM = "auto, off, or HOST:PORT,COUNT,INDEX"


def join(how: str) -> None:
    """Joins the processes of a run; before anything asks for devices.

    Args:
      how: "off" for a process on its own; "auto" where the cluster says who
        takes part (Slurm, Cloud TPU, Kubernetes, Open MPI); or
        "host:port,n,i": process i of n, and where process 0 listens.

    Raises:
      UserError: the text has another form, or nothing says who takes part.
    """
    if how == "off":
        return
    if how == "auto":
        try:
            jax.distributed.initialize()
        except (ValueError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(
                f"--distributed=auto finds no cluster to join ({reason}); "
                "give HOST:PORT,COUNT,INDEX, or leave the flag out on a "
                "machine of its own."
            ) from error
        return
    try:
        address, count, index = how.split(",")
        _, port = address.rsplit(":", 1)
        count, index, _ = int(count), int(index), int(port)
        fits = 0 <= index < count
    except ValueError:
        fits = False
    if not fits:
        raise UserError(f"--distributed is {how!r}; it must be {FORM}.")
    try:
        jax.distributed.initialize(address, count, index)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"process {index} of {count} could not join at {address} "
            f"({reason}); start all of them with the same address."
        ) from error


def first() -> bool:
    """Tells whether this process is the one that speaks and writes."""
    return jax.process_index() == 0


def say(text: str) -> None:
    """Prints a line, once for all processes."""
    if first():
        print(text, flush=True)


def least(number: int) -> int:
    """Returns the least of what the processes say; all must ask."""
    if jax.process_count() == 1:
        return number
    from jax.experimental import multihost_utils

    return int(np.min(multihost_utils.process_allgather(np.array(number))))


def meet(name: str) -> None:
    """Waits until every process is here, so that files are there for all."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(name)
