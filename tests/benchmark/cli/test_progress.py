"""Progress of tasks: bars on a terminal, lines anywhere else, and lines that are printed as they are."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmark.cli.progress import ProgressDisplay, bar, open_console
from benchmark.cli.study_display import StudyDisplay
from benchmark.config.protocol import Protocol
from benchmark.executors.events import Finished, Note, Packing, Started, Step
from benchmark.records.history import Round, history_csv
from benchmark.runs.jobs import TrainJob
from benchmark.study.time_left import ExpectedJob, ExpectedWork
from benchmark.utils.files import write_atomically


def test_line_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    lines = ["error: [bold]", r"C:\[x]\a", ":cat: 12 of 0x1f, 'text'", "long " * 50]
    console = open_console()
    for line in (*lines, Path("a/[b]/" + 100 * "c")):
        console.print(line)
    assert capsys.readouterr().out.splitlines() == [*lines, "a/[b]/" + 100 * "c"]


def test_without_a_terminal_a_line_now_and_then_tells_the_progress() -> None:
    text, now = io.StringIO(), [1000.0]
    with ProgressDisplay(open_console(file=text), 60, lambda: now[0]) as progress:
        progress.print("3 images")
        for done in range(6):
            progress.update("scan.png", done, 5, "tiles")
            progress.update("silent", done, 5)
            now[0] += 25
        progress.end("scan.png")
    assert text.getvalue().splitlines() == ["3 images", "scan.png: 3/5 tiles, about 50 s left"]


def test_terminal_shows_a_bar_and_the_time_left() -> None:
    text, now = io.StringIO(), [1000.0]
    console = open_console(file=text, force_terminal=True, width=120)
    with ProgressDisplay(console, 0, lambda: now[0]) as progress:
        assert progress.update("omc [unet]", 10, 30, "images") == ""  # a resumed task has no pace yet
        now[0] += 20
        assert progress.update("omc [unet]", 20, 30, "images") == "about 20 s left"
        progress.print("[1/2] done")
        progress.bars.refresh()
        assert progress.update("omc [unet]", 30, 30, "images") == ""
    shown = re.sub(r"\x1b\[[\d?]*\w", "", text.getvalue())
    assert "omc [unet]" in shown
    assert "20/30 about 20 s left" in shown
    assert "[1/2] done" in shown
    assert "images" not in shown  # the bar stands for the line


def test_bar_is_silent_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with bar("reading") as advance:
        advance(1, 2)
    assert capsys.readouterr() == ("", "")


def plan_of(*jobs: TrainJob, timed: bool = True) -> Any:
    return SimpleNamespace(
        todo=jobs, expected=ExpectedWork({job.label: ExpectedJob(100.0, "", timed=timed) for job in jobs})
    )


def test_without_a_terminal_rounds_are_told_at_most_every_half_minute(
    make_job: Callable[..., TrainJob], small: Protocol
) -> None:
    text, now, job = io.StringIO(), [1000.0], make_job(small)
    history: list[Round] = []
    with StudyDisplay(open_console(file=text), plan_of(job), lambda: now[0]) as display:
        display.show(Started(job))
        for number in range(1, 9):
            history.append(Round(number, 10 * number, 0.5, 0.25 / number, 0.1, 1.0, 1.0))
            write_atomically(job.folder / "history.csv", history_csv(history))
            now[0] += 10
            display.show(Step(job, 10 * number + 1, 100))
            display.show(Step(job, 10 * number + 2, 100))
    assert text.getvalue().splitlines() == [
        "omc-syn tinynet repeat 0: round 3, step 31/100, validation loss 0.0833; "
        "study 27%, 30 s so far, about 80 s left",
        "omc-syn tinynet repeat 0: round 6, step 61/100, validation loss 0.0417; "
        "study 54%, 60 s so far, about 50 s left",
    ]


def test_terminal_shows_share_elapsed_and_left_from_the_first_second(
    make_job: Callable[..., TrainJob], small: Protocol
) -> None:
    text, now, job = io.StringIO(), [1000.0], make_job(small)
    console = open_console(file=text, force_terminal=True, width=120)
    with StudyDisplay(console, plan_of(job), lambda: now[0]) as display:
        now[0] += 1
        display.bars.refresh()
        display.show(Started(job))
        now[0] += 19
        display.bars.refresh()
    shown = re.sub(r"\x1b\[[\d?]*\w", "", text.getvalue())
    assert "0/1 1%, 1 s so far, about 2 min left" in shown
    assert "0/1 20%, 20 s so far, about 81 s left" in shown


@pytest.mark.parametrize(("timed", "text"), [(True, "about 75 s left"), (False, "about 75 s left (a guess)")])
def test_time_left_that_rests_on_nothing_timed_is_called_a_guess(
    make_job: Callable[..., TrainJob], small: Protocol, timed: bool, text: str
) -> None:
    job, now = make_job(small), [1000.0]
    display = StudyDisplay(open_console(file=io.StringIO()), plan_of(job, timed=timed), lambda: now[0])
    display.show(Started(job))
    now[0] += 25
    assert display.progress() == f"25%, 25 s so far, {text}"


def test_building_of_a_dataset_is_told_at_its_start_and_end() -> None:
    text = io.StringIO()
    with StudyDisplay(open_console(file=text), plan_of()) as display:
        for done in range(1, 5):
            display.show(Packing("omc-syn", done, 4))
        display.show(Note("omc", "levels differ"))
    assert text.getvalue().splitlines() == [
        "building omc-syn: 1/4 images",
        "building omc-syn: 4/4 images",
        "omc: levels differ",
    ]


def test_scores_of_several_tests_have_their_names(make_job: Callable[..., TrainJob], small: Protocol) -> None:
    job, text = make_job(small), io.StringIO()
    scores = {"omc@track": {"image": {"miou": 0.9121}}, "omc@via": {"image": {"miou": 0.5}}, "omc@metal": {"image": {}}}
    several = job.record(status="ok", environment={}).model_copy(update={"metrics": scores})
    alone = several.model_copy(update={"metrics": {"omc": {"image": {"miou": 0.9}}}})
    with StudyDisplay(open_console(file=text), plan_of(job)) as display:
        for record in (several, alone):
            display.show(Finished(job, record, 3.0))
    first, second = text.getvalue().splitlines()
    assert "repeat 0: ok, omc@track mIoU 91.2 %, omc@via mIoU 50.0 %, 3 s; " in first
    assert "repeat 0: ok, mIoU 90.0 %, 3 s; " in second
