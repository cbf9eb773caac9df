"""What the doors say while they work."""

import pytest

from htmaml_jax.run import logs


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until its `now` is set."""

    class Clock:
        now = 100.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(logs, "time", clock)
    return clock


def test_only_waiting_for_items_is_counted(clock):
    def slow():
        for item in "ab":
            clock.now += 3.0
            yield item

    items = logs.Timed(slow())
    assert next(items) == "a"
    clock.now += 50.0  # the caller's own work
    assert next(items) == "b"
    assert items.seconds() == 6.0
    assert items.seconds() == 0.0


def test_a_long_evaluation_says_how_far_it_is(clock, capsys):
    tell = logs.waiting("test tasks", 200)
    clock.now += 100.0  # the first tasks wait for a program
    tell(40)
    assert capsys.readouterr().out == ""
    clock.now += 20.0
    tell(80)
    said = capsys.readouterr().out
    # 120 tasks at 20 s for 40 take 60 s.
    assert said == "80/200 test tasks, 1.0 min left at this pace\n"
    clock.now += 10.0
    tell(120)
    clock.now += 60.0
    tell(200)  # what has ended needs no telling
    assert capsys.readouterr().out == ""


def test_progress_says_the_last_step_in_any_case(clock, capsys):
    progress = logs.Progress("maml", 0, 10, 4, "accuracy")
    clock.now += 2.0
    progress.show(1, 1.5, 0.25)
    assert capsys.readouterr().out == ""
    clock.now += 18.0
    progress.show(10, 1.25, 0.5)
    progress.close()
    assert capsys.readouterr().out == (
        "maml step 10/10 loss 1.250 accuracy 0.500 2.0 episodes/s, "
        "0.0 min left at this pace\n"
    )
