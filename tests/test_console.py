"""The time left follows the recent rate, whatever came before; lines stand in for bars without a terminal."""

import pytest
from rich.table import Table

from oneiros.console import Rate, bars, duration, in_one_line, printable, say, show


class Work:
    """A rate under a clock that the test sets."""

    def __init__(self, first: int = 0) -> None:
        self.now, self.done = 100.0, first
        self.rate = Rate(first, clock=lambda: self.now)

    def steps(self, count: int, *, seconds: float, lump: int = 1) -> None:
        """`count` times `lump` units, each lump at once at the end of its `seconds`."""
        for _ in range(count):
            self.now += seconds
            for _ in range(lump):
                self.done += 1
                self.rate.update(self.done)

    def left(self, units: int) -> float:
        seconds = self.rate.seconds_left(self.done + units)
        assert seconds is not None
        return seconds


def test_nothing_is_known_before_the_first_update():
    work = Work()
    assert work.rate.per_second is None
    assert work.rate.seconds_left(10) is None


@pytest.mark.parametrize("seconds", [0.001, 0.3, 5.0, 400.0])
def test_an_even_pace_is_known_from_the_first_updates_on(seconds):
    work = Work()
    for _ in range(4):
        work.steps(3, seconds=seconds)
        assert work.left(1000) == pytest.approx(1000 * seconds)


@pytest.mark.parametrize("seconds", [0.01, 1.0, 5.0])
def test_an_hours_pause_is_forgotten_within_minutes(seconds):
    work = Work()
    work.steps(50, seconds=seconds)
    work.now += 3600
    work.steps(int(240 / seconds), seconds=seconds)
    assert work.left(1000) == pytest.approx(1000 * seconds, rel=0.1)


@pytest.mark.parametrize("seconds", [0.01, 1.0, 5.0])
def test_a_cold_start_ten_times_slower_is_forgotten(seconds):
    work = Work()
    work.steps(int(120 / (10 * seconds)), seconds=10 * seconds)
    work.steps(int(180 / seconds), seconds=seconds)
    assert work.left(1000) == pytest.approx(1000 * seconds, rel=0.1)


def test_a_compilation_of_minutes_in_the_first_step_is_forgotten():
    work = Work()
    work.steps(1, seconds=600)
    work.steps(150, seconds=1)
    assert work.left(1000) == pytest.approx(1000, rel=0.1)


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_a_change_of_pace_shows(factor):
    work = Work()
    work.steps(3600, seconds=1)
    work.steps(int(180 / factor), seconds=factor)
    assert work.left(1000) == pytest.approx(1000 * factor, rel=0.1)


def test_slow_steps_that_speed_up():
    work = Work()
    work.steps(30, seconds=50)
    work.steps(36, seconds=5)
    assert work.left(100) == pytest.approx(500, rel=0.1)


def test_lumps_count_with_the_time_they_took():
    work = Work()
    for _ in range(5):
        work.steps(1, seconds=120, lump=10)
        assert work.left(100) == pytest.approx(1200)


def test_a_pause_that_comes_again_and_again_is_part_of_the_pace():
    work = Work()
    for _ in range(60):
        work.steps(99, seconds=0.1)
        work.steps(1, seconds=10)  # a picture
    assert work.left(1000) == pytest.approx(1000 * 0.199, rel=0.15)


def test_steps_before_a_resume_took_no_time_of_this_session():
    work = Work(first=9_000)
    work.steps(10, seconds=2)
    assert work.left(990) == pytest.approx(1980)


def test_lines_without_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr("oneiros.console.FIRST_LINE_AFTER", 0.0)
    with bars() as track:
        track("dreaming", 1_200, first=1_000)(20, "loss 1")
    name, text, left = capsys.readouterr().err.strip().split("  ")
    assert (name, text) == ("dreaming 1,020/1,200", "loss 1")
    assert left.endswith(" left")


def test_the_last_line_tells_the_time_spent(capsys, monkeypatch):
    monkeypatch.setattr("oneiros.console.FIRST_LINE_AFTER", 0.0)
    with bars() as track:
        advance = track("training a world", 3, unit="step")
        for _ in range(3):
            advance(1)
    first, last = capsys.readouterr().err.splitlines()
    assert first.startswith("step 1/3  ")
    assert last == "step 3/3  in 0 s"


def test_short_work_says_nothing_without_a_terminal(capsys):
    with bars() as track:
        track("dreaming", 3)(3)
    assert capsys.readouterr().err == ""


def test_a_terminal_shows_how_far_it_is_and_what_it_took(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    with bars() as track:
        advance = track("dreaming", 1_200)
        advance(1_200, "loss 1")
    shown = capsys.readouterr().err
    for part in ("dreaming", "1,200/1,200", "spent", "loss 1"):
        assert part in shown


def test_one_process_of_many_speaks(capsys, monkeypatch):
    monkeypatch.setattr("oneiros.console.FIRST_LINE_AFTER", 0.0)
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        say(f"from {rank}")
        with bars() as track:
            track(f"bar {rank}", 2)(1)
    told = capsys.readouterr().err
    assert "from 0" in told
    assert "bar 0" in told
    assert "from 1" not in told
    assert "bar 1" not in told


@pytest.mark.parametrize(("seconds", "text"), [(45, "45 s"), (720, "12 min"), (12_000, "3 h 20 min")])
def test_durations_in_words(seconds, text):
    assert duration(seconds) == text


def test_what_would_steer_a_terminal_is_spelled_out():
    assert printable("a\x1b[2J b\x07\u202e c\x9b\ud800 é\n") == r"a\x1b[2J b\x07\u202e c\x9b\ud800 é" + "\n"


def test_a_line_fits_a_screen():
    assert in_one_line("one\n  two\x00") == r"one two\x00"
    assert len(in_one_line("x" * 10**6)) < 80 * 24
    assert in_one_line("begin " + "x" * 10**6 + " end").endswith(" end")


def test_cells_have_no_markup(capsys):
    table = Table("name", title="[INST] :smile: [/x]")
    table.add_row("[old] data, which is long enough for a title")
    show(table)
    said = capsys.readouterr().out
    assert "[INST] :smile: [/x]" in said
    assert "[old] data, which" in said
