"""Checkpoints: `latest` to resume from, `best` by validation to use."""

from __future__ import annotations

import contextlib
import pathlib
from typing import Any

import jax
import orbax.checkpoint as ocp
from absl import logging

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

    def __init__(self, workdir: pathlib.Path):
        self._workdir = workdir
        self._managers: dict[str, ocp.CheckpointManager] = {}

    def _manager(self, series: str) -> ocp.CheckpointManager:
        if series not in self._managers:
            root = (self._workdir / "checkpoints" / series).resolve()
            # Synchronous: an error belongs to the save that caused it.
            options = ocp.CheckpointManagerOptions(
                max_to_keep=1, create=True, enable_async_checkpointing=False
            )
            self._managers[series] = ocp.CheckpointManager(
                root, options=options
            )
        return self._managers[series]

    def has(self, series: str) -> bool:
        """Tells whether a series holds a whole checkpoint."""
        root = self._workdir / "checkpoints" / series
        return root.is_dir() and self._manager(series).latest_step() is not None

    def save(self, series: str, step: int, state: Any, info: dict) -> None:
        """Saves a pytree of arrays with a JSON object under a step."""
        if self.has(series) and self._manager(series).latest_step() == step:
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
            kept = "no checkpoint is kept yet"
            steps = [s for s in self._steps(series) if s != step]
            if steps:
                kept = f"the one of step {max(steps)} is kept"
            reason = str(error).strip().splitlines()[-1]
            raise UserError(
                f"the checkpoint of step {step} could not be written below "
                f"{self._workdir} ({reason}); {kept}. Free disk space or "
                "permissions, then run the same command to go on."
            ) from error

    def _steps(self, series):
        root = self._workdir / "checkpoints" / series
        names = [p.name for p in root.iterdir()] if root.is_dir() else []
        return [int(name) for name in names if name.isdigit()]

    def info(self, series: str) -> dict:
        """Reads the JSON object of the newest checkpoint of a series."""
        manager = self._manager(series)
        restored = self._restore(
            series,
            lambda: manager.restore(
                manager.latest_step(),
                args=ocp.args.Composite(info=ocp.args.JsonRestore()),
            ),
        )
        return restored["info"]

    def state(self, series: str, like: Any) -> Any:
        """Reads the newest pytree of a series, shaped and placed as `like`."""
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        return self._read(series, ocp.args.StandardRestore(abstract))

    def meta(self, series: str, like: Any) -> Any:
        """Reads meta alone, without the optimizer's state if there is one."""
        restore = ocp.checkpoint_utils.construct_restore_args({"meta": like})
        args = ocp.args.PyTreeRestore(
            item={"meta": like}, restore_args=restore, partial_restore=True
        )
        return self._read(series, args)["meta"]

    def _read(self, series, args):
        manager = self._manager(series)
        restored = self._restore(
            series,
            lambda: manager.restore(
                manager.latest_step(), args=ocp.args.Composite(state=args)
            ),
        )
        return restored["state"]

    def _restore(self, series, read):
        if not self.has(series):
            raise UserError(
                f"{self._workdir} holds no {series!r} checkpoint; train "
                "first, or correct the path."
            )
        try:
            return read()
        except (OSError, ValueError, KeyError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(
                f"the {series!r} checkpoint in {self._workdir} is damaged "
                f"({reason}); remove that folder to start again."
            ) from error

    def close(self) -> None:
        """Releases what orbax holds."""
        for manager in self._managers.values():
            manager.close()
