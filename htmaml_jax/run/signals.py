"""Ctrl-C and SIGTERM as a wish to stop, granted between two updates."""

from __future__ import annotations

import os
import signal
from typing import NoReturn

import jax

from htmaml_jax.run import hosts
from htmaml_jax.run.checkpoints import Checkpoints


class Stop:
    """Remembers the first stop signal; a second one acts at once.

    Of several processes all must stop after the same update, whichever got
    the signal: there JAX's own service listens for SIGTERM and agrees on a
    step, and orbax asks it.
    """

    def __init__(self, saved: Checkpoints):
        self._signal: int | None = None
        self._saved = saved
        handlers = {signal.SIGINT: self._notice, signal.SIGTERM: self._notice}
        if jax.process_count() > 1:
            handlers = {signal.SIGINT: self._pass_on}
        self._before = {
            number: signal.signal(number, handler)
            for number, handler in handlers.items()
        }

    def _notice(self, number, frame):
        del frame
        self._signal = number
        self.restore()

    def _pass_on(self, number, frame):
        del number, frame
        self.restore()
        os.kill(os.getpid(), signal.SIGTERM)

    def asked(self, step: int) -> int | None:
        """Returns the signal to obey after update `step`, or None."""
        if jax.process_count() == 1:
            return self._signal
        return signal.SIGTERM if self._saved.preempted(step) else None

    def restore(self) -> None:
        """Gives the signals back their former meaning."""
        for number, handler in self._before.items():
            signal.signal(number, handler)


def leave(number: int, at: int, command: str) -> NoReturn:
    """Ends the process for signal `number`, after step `at` was saved."""
    hosts.say(f"stopped after step {at} and saved; to go on: {command}")
    raise SystemExit(128 + number)
