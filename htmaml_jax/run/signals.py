"""Ctrl-C and SIGTERM as a wish to stop, granted between two updates."""

from __future__ import annotations

import signal


class Stop:
    """Remembers the first stop signal; a second one acts at once."""

    def __init__(self):
        self.signal: int | None = None
        self._before = {
            number: signal.signal(number, self._notice)
            for number in (signal.SIGINT, signal.SIGTERM)
        }

    def _notice(self, number, frame):
        del frame
        self.signal = number
        self.restore()

    def restore(self) -> None:
        """Gives the signals back their former meaning."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
