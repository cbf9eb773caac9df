"""Metrics as JSON lines and TensorBoard files, and the progress bar."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator

import tqdm
from etils import epath

from htmaml_jax import files
from htmaml_jax.errors import UserError
from htmaml_jax.run import hosts

_QUIET = 15.0  # seconds between lines that say how far it is


class Silent:
    """Stands for a Log or a Progress in all processes but the first."""

    def __getattr__(self, name: str):
        return lambda *values: None


class Log:
    """Writes `metrics.jsonl` and TensorBoard files of one workdir.

    Nothing can be appended to a file in a bucket: there the metrics are
    written anew each time, and TensorBoard files are left out.
    """

    def __init__(self, workdir: epath.Path, step: int):
        """Opens the logs to go on after `step`; later lines are dropped."""
        self._path = workdir / "metrics.jsonl"
        kept = [x for x in read(self._path) if x["step"] <= step]
        self._text = "".join(json.dumps(x) + "\n" for x in kept)
        files.write_whole(self._path, self._text)
        self._file = self._board = None
        if "://" in str(workdir):
            return
        from tensorboardX import event_file_writer, proto

        self._event = proto.event_pb2.Event
        with self._guard():
            self._file = open(self._path, "a")
            board = workdir / "tensorboard"
            board.mkdir(exist_ok=True)
            # The writer below SummaryWriter: no thread to hang on a full disk.
            self._board = event_file_writer.EventsWriter(
                str(board / "events"), f".{os.getpid()}"
            )
            start = proto.event_pb2.SessionLog(
                status=proto.event_pb2.SessionLog.START
            )
            # TensorBoard drops what an earlier session wrote from here on.
            self._add(step + 1, session_log=start)

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """Appends one line with flat slash names."""
        line = json.dumps({"step": step, **metrics}) + "\n"
        if not self._board:
            self._text += line
            files.write_whole(self._path, self._text)
            return
        from tensorboardX import summary

        with self._guard():
            self._file.write(line)
            self._file.flush()
            for name, value in metrics.items():
                self._add(step, summary=summary.scalar(name, value))
            self._board.flush()

    def _add(self, step, **what):
        self._board.write_event(
            self._event(wall_time=time.time(), step=step, **what)
        )

    @contextlib.contextmanager
    def _guard(self):
        try:
            yield
        except OSError as error:
            raise UserError(
                f"{self._path.parent} cannot be written ({error.strerror}); "
                "free disk space, then run the same command to go on."
            ) from error

    def close(self) -> None:
        """Closes both files; whatever was written was flushed before."""
        for file in filter(None, (self._file, self._board)):
            # After a full disk closing fails too, and says nothing new.
            with contextlib.suppress(OSError):
                file.close()


def read(path: epath.Path) -> list[dict]:
    """Reads JSON lines; a last line cut short by a kill is left out."""
    if not path.exists():
        return []
    lines = []
    for text in path.read_text().splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:
            break
    return lines


class Timed(Iterator):
    """An iterator that counts how long its caller waited for items."""

    def __init__(self, items: Iterable):
        """Wraps `items`; nothing is drawn ahead of time."""
        self._items, self._seconds = iter(items), 0.0

    def __next__(self):
        asked = time.monotonic()
        try:
            return next(self._items)
        finally:
            self._seconds += time.monotonic() - asked

    def seconds(self) -> float:
        """Returns the seconds waited since this was last asked."""
        seconds, self._seconds = self._seconds, 0.0
        return seconds


def waiting(what: str, count: int) -> Callable[[int], None]:
    """Makes done -> None, which prints how far it is if that takes long.

    The pace is that after the first call, before which programs compile.
    """
    line, first = time.monotonic(), None

    def tell(done):
        nonlocal line, first
        now = time.monotonic()
        first = first or (now, done)
        if now - line <= _QUIET or not first[1] < done < count:
            return
        line, pace = now, (now - first[0]) / (done - first[1])
        left = pace * (count - done) / 60
        hosts.say(f"{done}/{count} {what}, {left:.1f} min left at this pace")

    return tell


class Progress:
    """A bar on a terminal, a line now and then elsewhere."""

    def __init__(
        self, name: str, first: int, last: int, tasks: int, metric: str
    ):
        """Starts at meta-update `first` of `last`, `tasks` episodes each."""
        self._metric = metric
        self._name, self._last, self._tasks = name, last, tasks
        self._first, self._start = first, time.monotonic()
        self._line = time.monotonic()
        self._bar = tqdm.tqdm(
            total=last,
            initial=first,
            desc=name,
            disable=not sys.stderr.isatty(),
            bar_format="{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} "
            "{remaining} left {postfix}",
        )

    def show(self, step: int, loss: float, score: float) -> None:
        """Shows the state after meta-update `step`."""
        took = max(time.monotonic() - self._start, 1e-9)
        speed = (step - self._first) * self._tasks / took
        left = (self._last - step) * self._tasks / max(speed, 1e-9)
        text = f"loss {loss:.3f} "
        if score != loss:
            text += f"{self._metric} {score:.3f} "
        text += f"{speed:.1f} episodes/s"
        self._bar.set_postfix_str(text, refresh=False)
        self._bar.update(step - self._bar.n)
        late = time.monotonic() - self._line > _QUIET or step == self._last
        if self._bar.disable and late:
            self._line = time.monotonic()
            self.say(
                f"{self._name} step {step}/{self._last} {text}, "
                f"{left / 60:.1f} min left at this pace"
            )

    def say(self, text: str) -> None:
        """Prints a line without tearing the bar."""
        tqdm.tqdm.write(text)
        sys.stdout.flush()

    def close(self) -> None:
        """Leaves the bar as it stands."""
        self._bar.close()
