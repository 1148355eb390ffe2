"""Tests settings, data and code that differ from those of a study's folder."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmark.config.protocol import Protocol, load_protocol
from benchmark.records import claims
from benchmark.records.store import Store
from benchmark.study.execute import execute
from benchmark.study.plan import make_plan
from benchmark.utils.errors import UserError
from tests.benchmark.conftest import SMALL
from tests.benchmark.pretend import MakeStudy, Pretend, alone, begin_and_stop, contents, do

OTHER = "training.lr=0.5"
DIFFERS = r"training\.lr: 0\.002 -> 0\.5"


def test_other_settings_are_refused_with_the_fields_and_the_remedies(small: Protocol, make_study: MakeStudy) -> None:
    do(make_study(small))
    other = make_study(load_protocol("quick", [*SMALL, "training.lr=0.5"]))
    with pytest.raises(UserError, match=r"3 runs.*training\.lr: 0\.002 -> 0\.5.*--study NAME.*--replace-stale"):
        make_plan(other)


def test_replaced_runs_are_set_aside_and_never_deleted(small: Protocol, make_study: MakeStudy) -> None:
    do(make_study(small))
    other = make_study(load_protocol("quick", [*SMALL, "training.lr=0.5"]))
    plan, _ = do(other, replace_stale=True)
    assert (len(plan.stale), len(plan.todo)) == (3, 3)
    kept = sorted(path.name for path in (other.folder / "runs" / ".stale").iterdir())
    assert kept == ["omc-syn.tinynet.0.0", "omc-syn.tinynet.1.0", "omc-syn.tinynet.2.0"]
    assert len(make_plan(other).done) == 3
    assert other.store.read_protocol() == other.protocol


def test_run_that_another_process_is_doing_is_not_moved_away(small: Protocol, make_study: MakeStudy) -> None:
    study = make_study(small)
    do(study)
    other = make_study(load_protocol("quick", [*SMALL, "training.lr=0.5"]))
    refusal = pytest.raises(UserError, match=r"--replace-stale: another process is doing omc-syn tinynet repeat 1")
    with claims.acquire(study.store.run_folder(("omc-syn",), "tinynet", 1)), refusal:  # type: ignore[union-attr]
        do(other, replace_stale=True)
    assert study.store.read_protocol() == study.protocol
    assert len(make_plan(study).done) == 3


def test_other_settings_are_refused_before_any_run_has_finished(small: Protocol, make_study: MakeStudy) -> None:
    study, other = make_study(small), make_study(load_protocol("quick", [*SMALL, OTHER]))
    begin_and_stop(study)
    before = contents(study.folder)
    with pytest.raises(UserError, match=rf"3 files of reference rows.*{DIFFERS}.*--study NAME.*--replace-stale"):
        make_plan(other)
    assert "reference rows" in make_plan(other, refuse=False).refusal
    assert contents(study.folder) == before
    do(other, replace_stale=True)
    assert other.store.read_protocol() == other.protocol


def test_other_settings_are_refused_while_a_run_of_the_study_is_being_done(
    small: Protocol, make_study: MakeStudy
) -> None:
    study, other = make_study(small), make_study(load_protocol("quick", [*SMALL, OTHER]))
    study.store.write_protocol(small)
    with claims.acquire(study.store.run_folder(("omc-syn",), "tinynet", 0)):  # type: ignore[union-attr]
        with pytest.raises(UserError, match=rf"holds 1 run under way made under something else: {DIFFERS}"):
            make_plan(other)
        with pytest.raises(UserError, match="--replace-stale: another process is doing omc-syn tinynet repeat 0"):
            do(other, replace_stale=True)
    assert study.store.read_protocol() == small


def test_one_of_two_simultaneous_calls_begins_the_study(small: Protocol, make_study: MakeStudy) -> None:
    study, other = make_study(small), make_study(load_protocol("quick", [*SMALL, OTHER]))
    first, second = make_plan(study), make_plan(other)
    execute(study, first, Pretend(), lambda event: None)
    before, executor = contents(study.folder), Pretend()
    with pytest.raises(UserError, match=rf"another call has begun this study meanwhile .*{DIFFERS}.*--study NAME"):
        execute(other, second, executor, lambda event: None)
    assert (executor.jobs, contents(study.folder)) == ([], before)


def test_call_that_finds_a_run_begun_while_it_replaces_the_settings_puts_them_back(
    small: Protocol, make_study: MakeStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, other = make_study(small), make_study(load_protocol("quick", [*SMALL, OTHER]))
    do(study)
    claimed: list[object] = []

    def write(protocol: Protocol) -> None:
        Store.write_protocol(other.store, protocol)
        claimed.append(claims.acquire(study.store.run_folder(("omc-syn",), "tinynet", 3)))

    monkeypatch.setattr(other.store, "write_protocol", write)
    with pytest.raises(UserError, match="--replace-stale: another process is doing omc-syn tinynet repeat 3"):
        do(other, replace_stale=True)
    assert study.store.read_protocol() == small
    assert len(make_plan(study).done) == 3


def test_study_in_which_nothing_was_made_takes_other_settings(small: Protocol, make_study: MakeStudy) -> None:
    study, other = make_study(small), make_study(load_protocol("quick", [*SMALL, OTHER]))
    study.store.write_protocol(small)
    do(other)
    assert other.store.read_protocol() == other.protocol


@pytest.mark.parametrize("harmless", ["repeats=1", "name=other", "report.reduction=pooled"])
def test_settings_that_change_no_number_are_never_refused(
    small: Protocol, make_study: MakeStudy, harmless: str
) -> None:
    begin_and_stop(make_study(small))
    plan, _ = do(make_study(load_protocol("quick", [*SMALL, harmless])))
    assert plan.refusal == ""


def test_unfinished_trainings_under_other_settings_are_set_aside(small: Protocol, make_study: MakeStudy) -> None:
    study, other = make_study(small), make_study(load_protocol("quick", [*SMALL, OTHER]))
    study.store.write_protocol(small)
    checkpoint = study.store.run_folder(("omc-syn",), "tinynet", 0) / "last.pt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(b"state")
    with pytest.raises(UserError, match=r"holds 1 unfinished training"):
        make_plan(other)
    do(other, replace_stale=True)
    assert (study.folder / "runs/.stale/omc-syn.tinynet.0.0/last.pt").read_bytes() == b"state"


def test_runs_of_other_models_under_other_settings_are_stale_too(small: Protocol, make_study: MakeStudy) -> None:
    do(make_study(small, "Raises"))
    with pytest.raises(UserError, match=r"training\.lr"):
        make_plan(make_study(load_protocol("quick", [*SMALL, "training.lr=0.5"]), "TinyNet"))


def test_changed_data_is_named(small: Protocol, make_study: MakeStudy) -> None:
    study = make_study(small)
    do(study)
    study.tasks = [alone(replace(study.sources[0], fingerprint="something else"))]
    with pytest.raises(UserError, match="the content of omc-syn"):
        make_plan(study)


def test_changed_network_is_named(small: Protocol, make_study: MakeStudy) -> None:
    study = make_study(small)
    do(study)
    study.models = [replace(study.models[0], version=2)]
    with pytest.raises(UserError, match="the code of tinynet"):
        make_plan(study)
