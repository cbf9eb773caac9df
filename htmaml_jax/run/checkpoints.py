"""Checkpoints: `latest` to resume from, `best` by validation to use."""

from __future__ import annotations

import contextlib
from typing import Any

import jax
import orbax.checkpoint as ocp
from absl import logging
from etils import epath

from htmaml_jax.errors import UserError


@contextlib.contextmanager
def _quiet():
    """Keeps the tracebacks that orbax logs from its threads to itself.

    What fails in such a thread is raised again where it is waited for, and
    a person needs to read it once.
    """
    before = logging.get_verbosity()
    logging.set_verbosity(logging.FATAL)
    try:
        yield
    finally:
        logging.set_verbosity(before)


class Checkpoints:
    """Both checkpoint series of a workdir, written with orbax.

    A checkpoint is a pytree of arrays and one JSON object; nothing in it is
    ever executed. Saving first writes beside, then renames, so whatever
    interrupts it leaves the previous checkpoint whole.
    """

    def __init__(self, workdir: epath.Path):
        self._workdir = workdir
        self._managers: dict[str, ocp.CheckpointManager] = {}

    def _manager(self, series: str) -> ocp.CheckpointManager:
        if series not in self._managers:
            root = epath.Path(self._workdir / "checkpoints" / series)
            # Synchronous: an error belongs to the save that caused it.
            options = ocp.CheckpointManagerOptions(
                max_to_keep=1, create=True, enable_async_checkpointing=False
            )
            self._managers[series] = ocp.CheckpointManager(
                root.resolve(), options=options
            )
        return self._managers[series]

    def step(self, series: str) -> int | None:
        """Returns the step of the newest whole checkpoint of a series."""
        root = self._workdir / "checkpoints" / series
        return self._manager(series).latest_step() if root.is_dir() else None

    def kept(self, series: str) -> str:
        """Says what a series holds, as part of a message."""
        step = self.step(series)
        if step is None:
            return f"no {series!r} checkpoint was written yet"
        return f"the checkpoint of step {step} stays in {self._workdir}"

    def preempted(self, step: int) -> bool:
        """Tells all processes alike that one was told to stop by now."""
        return self._manager("latest").reached_preemption(step)

    def save(self, series: str, step: int, state: Any, info: dict) -> None:
        """Saves a pytree of arrays with a JSON object under a step."""
        if self.step(series) == step:
            return
        try:
            with _quiet():
                self._manager(series).save(
                    step,
                    force=True,
                    args=ocp.args.Composite(
                        state=ocp.args.StandardSave(state),
                        info=ocp.args.JsonSave(info),
                    ),
                )
                self._manager(series).wait_until_finished()
        except (OSError, ValueError) as error:
            if manager := self._managers.pop(series, None):
                manager.close()  # it counts the failed one
            reason = str(error).strip().splitlines()[-1]
            raise UserError(
                f"the checkpoint of step {step} could not be written below "
                f"{self._workdir} ({reason}); {self.kept(series)}. Free disk "
                "space or permissions, then run the same command to go on."
            ) from error

    def info(self, series: str) -> dict:
        """Reads the JSON object of the newest checkpoint of a series."""
        return self._read(series, "info", ocp.args.JsonRestore())

    def state(self, series: str, like: Any) -> Any:
        """Reads the newest pytree of a series, shaped and placed as `like`."""
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        return self._read(series, "state", ocp.args.StandardRestore(abstract))

    def meta(self, series: str, like: Any) -> Any:
        """Reads meta alone, without the optimizer's state if there is one."""
        return self.part(series, "meta", like)

    def part(self, series: str, name: str, like: Any) -> Any:
        """Reads one field of a saved state.

        It comes to one device, whatever devices it was saved from.
        """
        here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        like = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here),
            like,
        )
        restore = ocp.checkpoint_utils.construct_restore_args({name: like})
        args = ocp.args.PyTreeRestore(
            item={name: like}, restore_args=restore, partial_restore=True
        )
        found = self._read(series, "state", args)[name]
        # What is not in the file comes back as it was asked for.
        if not all(isinstance(x, jax.Array) for x in jax.tree.leaves(found)):
            raise UserError(
                f"the {series!r} checkpoint in {self._workdir} has no {name} "
                "of this form; it may be of an earlier version: train again."
            )
        return found

    def _read(self, series, item, args):
        step = self.step(series)
        if step is None:
            raise UserError(
                f"{self._workdir} holds no {series!r} checkpoint; train "
                "first, or correct the path."
            )
        try:
            composite = ocp.args.Composite(**{item: args})
            return self._manager(series).restore(step, args=composite)[item]
        except (OSError, ValueError, KeyError) as error:
            reason = (str(error).strip() or repr(error)).splitlines()[0]
            raise UserError(
                f"the {series!r} checkpoint of step {step} in "
                f"{self._workdir} cannot be read ({reason}). If a copy "
                "exists, put it back; else use another --workdir."
            ) from error

    def close(self) -> None:
        """Releases what orbax holds."""
        for manager in self._managers.values():
            manager.close()
