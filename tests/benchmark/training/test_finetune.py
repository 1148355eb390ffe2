"""Fine-tuning: which weights a run starts from, that it does start from them, and what is refused."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from benchmark.config import registry
from benchmark.config.protocol import Protocol, load_protocol
from benchmark.data.datasets import Source
from benchmark.data.tasks import Task
from benchmark.devices.hardware_slots import Hardware
from benchmark.records.store import RECORD, WEIGHTS, run_key
from benchmark.report.read import read_study
from benchmark.report.tables.accuracy_table import ACCURACY, scores
from benchmark.runs.jobs import TrainJob
from benchmark.runs.train import build_network, train_and_test
from benchmark.study.execute import execute
from benchmark.study.plan import make_plan
from benchmark.study.study import Study
from benchmark.training import loop
from benchmark.training.finetune import Start
from benchmark.utils.errors import UserError
from tests.benchmark.conftest import SMALL, TINY, Call, settings, tiny_run
from tests.benchmark.pretend import Pretend
from tests.benchmark.report import fake

MakeStudy = Callable[..., Study]


@pytest.fixture(scope="module")
def trained(small: Protocol, source: Source, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of which two of three repeats keep their weights, the later one with the lower validation loss."""
    folder = tmp_path_factory.mktemp("results") / "base"
    study = Study(
        folder, small, registry.select(f"{TINY}:TinyNet"), [Task((source,), (source,))], Hardware("cpu", 1), cache
    )
    for job in make_plan(study).todo:
        train_and_test(replace(job, keep_weights="all"), lambda *_: None)
    for repeat, loss in enumerate((0.5, 0.4, 0.3)):
        file = weights_of(study, repeat).with_name(RECORD)
        content = json.loads(file.read_text())
        content["training"]["best_validation_loss"] = loss
        file.write_text(json.dumps(content))
    weights_of(study, 1).unlink()
    return folder


@pytest.fixture
def base(small: Protocol, make_study: MakeStudy, trained: Path) -> Study:
    study = make_study(small, name="base")
    shutil.copytree(trained, study.folder)
    return study


def weights_of(study: Study, repeat: int, train: str = "omc-syn") -> Path:
    return study.folder / "runs" / train / "tinynet" / str(repeat) / WEIGHTS


def tuned(make_study: MakeStudy, base: Study, protocol: Protocol, train: str = "", name: str = "tuned") -> Study:
    study = make_study(protocol, name=name)
    study.start = Start.of(base.folder, train, study.folder)
    return study


def jobs_of(study: Study) -> list[TrainJob]:
    return sorted(make_plan(study).todo, key=lambda job: job.repeat)


def test_repeat_starts_from_its_own_weights_or_else_from_those_of_the_best(
    small: Protocol, make_study: MakeStudy, base: Study
) -> None:
    jobs = jobs_of(tuned(make_study, base, small))
    assert [job.init and job.init.facts.repeat for job in jobs] == [0, 2, 2]
    for job in jobs:
        assert job.init is not None
        assert job.init.file == weights_of(base, job.init.facts.repeat)
        assert job.init.facts.sha256 == hashlib.sha256(job.init.file.read_bytes()).hexdigest()
        assert job.key_parts.init == job.init.facts.sha256[:16]


def test_weights_without_a_record_will_do(small: Protocol, make_study: MakeStudy, base: Study) -> None:
    weights_of(base, 0).with_name(RECORD).unlink()
    weights_of(base, 2).with_name(RECORD).write_text("{broken")
    assert [job.init and job.init.facts.repeat for job in jobs_of(tuned(make_study, base, small))] == [0, 0, 2]


def test_training_begins_with_exactly_these_weights(
    small: Protocol, make_study: MakeStudy, base: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, torch.Tensor]] = []

    def spy(network: torch.nn.Module, *rest: Any) -> loop.TrainingResult:
        seen.append({name: value.clone() for name, value in network.state_dict().items()})
        return loop.train(network, *rest)

    monkeypatch.setattr("benchmark.runs.train.train", spy)
    job = jobs_of(tuned(make_study, base, small))[1]
    record = train_and_test(job, lambda *_: None)
    expected = load_file(weights_of(base, 2))
    assert seen[0].keys() == expected.keys()
    assert all(torch.equal(seen[0][name], expected[name]) for name in expected)
    assert not all(torch.equal(load_file(weights_of(base, 0))[name], expected[name]) for name in expected)
    assert record.init is not None
    assert (record.init.study, record.init.train, record.init.repeat) == ("base", ("omc-syn",), 2)
    assert run_key(record.key_parts) == record.key == job.key


def test_key_of_a_run_from_random_weights_is_what_it_was(small: Protocol, make_study: MakeStudy, base: Study) -> None:
    job, plain = jobs_of(tuned(make_study, base, small))[0], jobs_of(make_study(small, name="plain"))[0]
    assert job.key != plain.key
    parts = plain.key_parts.model_dump()
    assert parts.pop("init") is None
    text = json.dumps(parts, sort_keys=True)  # as before there was fine-tuning
    assert plain.key == hashlib.sha256(text.encode()).hexdigest()[:16]


def test_same_command_again_is_done_and_other_weights_make_it_stale(
    small: Protocol, make_study: MakeStudy, base: Study
) -> None:
    study = tuned(make_study, base, small)
    execute(study, make_plan(study), Pretend(), lambda _: None)
    assert len(make_plan(tuned(make_study, base, small)).done) == 3
    changed = load_file(weights_of(base, 0))
    changed["head.bias"] += 1
    save_file(changed, weights_of(base, 0))
    with pytest.raises(UserError, match=r"1 run.* start from: base, omc-syn \(\w{8}\) -> base"):
        make_plan(tuned(make_study, base, small))
    plan = make_plan(tuned(make_study, base, small), replace_stale=True)
    assert [job.repeat for job in plan.todo] == [0]


def test_fine_tuned_runs_and_others_never_share_a_study(small: Protocol, make_study: MakeStudy, base: Study) -> None:
    study = tuned(make_study, base, small)
    execute(study, make_plan(study), Pretend(), lambda _: None)
    with pytest.raises(UserError, match=r"start from: base, omc-syn \(\w{8}\) -> random ones"):
        make_plan(make_study(small, name="tuned"))
    # Also where the study has no such runs yet.
    with pytest.raises(UserError, match="start from: base, omc-syn"):
        make_plan(make_study(small, "Raises", name="tuned"))
    other = make_study(small, name="scratch")
    execute(other, make_plan(other), Pretend(), lambda _: None)
    fewer = tuned(make_study, base, load_protocol("quick", [*SMALL, "repeats=1"]), name="scratch")
    with pytest.raises(UserError, match="start from: random ones -> those of another study"):
        make_plan(fewer)


def test_study_with_several_training_sets_needs_one_to_be_named(
    small: Protocol, make_study: MakeStudy, base: Study
) -> None:
    shutil.copytree(base.folder / "runs/omc-syn", base.folder / "runs/miic-syn+omc-syn")
    with pytest.raises(UserError, match=r"on miic-syn\+omc-syn, omc-syn; name one, as in --init-from base:miic"):
        make_plan(tuned(make_study, base, small))
    job = jobs_of(tuned(make_study, base, small, "miic-syn+omc-syn"))[0]
    assert job.init is not None
    assert job.init.facts.train == ("miic-syn", "omc-syn")
    with pytest.raises(UserError, match=r"--init-from base:omc: .* trained on miic-syn\+omc-syn, omc-syn, not on omc$"):
        make_plan(tuned(make_study, base, small, "omc"))


def test_missing_weights_are_refused_with_the_folder_and_the_remedy(
    small: Protocol, make_study: MakeStudy, base: Study
) -> None:
    for repeat in (0, 2):
        weights_of(base, repeat).unlink()
    with pytest.raises(UserError, match=r"no weights in \S*base/runs/omc-syn/tinynet; .*--keep-weights all"):
        make_plan(tuned(make_study, base, small))
    study = make_study(small, "Raises", name="tuned")
    study.start = Start.of(base.folder, "", study.folder)
    with pytest.raises(UserError, match=r"base has no runs of raises; leave it out of --models"):
        make_plan(study)


def test_study_that_is_not_there_or_is_the_same_is_refused(small: Protocol, make_study: MakeStudy, base: Study) -> None:
    with pytest.raises(UserError, match="a study cannot start from itself"):
        Start.of(base.folder, "", base.folder)
    with pytest.raises(UserError, match="--init-from nowhere: no runs in"):
        Start.of(base.folder.with_name("nowhere"), "", base.folder)


def test_weights_of_other_shapes_are_refused_before_any_work_and_name_the_tensors(
    small: Protocol, make_study: MakeStudy, base: Study
) -> None:
    study = tuned(make_study, base, load_protocol("quick", [*SMALL, "input.channels=3"]))
    executor = Pretend()
    raised = r"features\.weight is 4x3x3x3 here and 4x1x3x3 there; expected .* model and input\.channels"
    with pytest.raises(UserError, match=raised):
        execute(study, make_plan(study), executor, lambda _: None)
    assert executor.jobs == []
    assert not study.folder.exists()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda file: save_file({"strange": torch.zeros(2)}, file), r"norm\.\w+ is .*none there"),
        (lambda file: torch.save({"a": torch.zeros(2)}, file), "no safetensors file"),
        (lambda file: file.write_bytes(b""), "no safetensors file"),
    ],
)
def test_what_are_no_weights_of_the_network_is_refused(
    small: Protocol, make_study: MakeStudy, base: Study, spoil: Callable[[Path], None], message: str
) -> None:
    spoil(weights_of(base, 0))
    with pytest.raises(UserError, match=message):
        build_network(jobs_of(tuned(make_study, base, small))[0])


def test_weights_that_change_between_plan_and_run_are_refused(
    small: Protocol, make_study: MakeStudy, base: Study
) -> None:
    job = jobs_of(tuned(make_study, base, small))[0]
    shutil.copy(weights_of(base, 2), weights_of(base, 0))
    with pytest.raises(UserError, match="has changed since this run was planned"):
        build_network(job)


def test_pretrained_encoders_beside_it_are_refused(small: Protocol, make_study: MakeStudy, base: Study) -> None:
    study = tuned(make_study, base, load_protocol("quick", [*SMALL, "training.encoder_weights=imagenet"]))
    with pytest.raises(UserError, match=r"--init-from base and training\.encoder_weights: give one"):
        make_plan(study)


def test_test_on_images_that_the_weights_have_seen_is_refused(
    small: Protocol, make_study: MakeStudy, base: Study
) -> None:
    execute(base, make_plan(base), Pretend(), lambda _: None)  # writes its splits
    same = tuned(make_study, base, small, name="same split")
    execute(same, make_plan(same), Pretend(), lambda _: None)
    more = tuned(make_study, base, load_protocol("quick", [*SMALL, "split.counts=[4,2,4]"]), name="more")
    executor = Pretend()
    with pytest.raises(
        UserError, match=r"test images of omc-syn that study base trained or validated on.*: \d, first image\d+"
    ):
        execute(more, make_plan(more), executor, lambda _: None)
    assert executor.jobs == []


def test_that_nobody_knows_what_the_weights_have_seen_is_said(
    small: Protocol, make_study: MakeStudy, base: Study
) -> None:
    events: list[Any] = []
    study = tuned(make_study, base, small)
    execute(study, make_plan(study), Pretend(), events.append)
    notes = [event.text for event in events if hasattr(event, "text")]
    assert any("unknown: base keeps no list" in note for note in notes)
    study = tuned(make_study, base, small, name="foreign")
    foreign = replace(study.sources[0], name="miic-syn")
    study.tasks = [Task((foreign,), (foreign,))]
    events.clear()
    execute(study, make_plan(study), Pretend(), events.append)
    assert not [event.text for event in events if "unknown" in getattr(event, "text", "")]


def test_tables_say_that_runs_were_fine_tuned(tmp_path: Path) -> None:
    fake.write_protocol(tmp_path)
    file = fake.write_run(tmp_path, "unet", ["mychip"], 0, [fake.counts(0.9, fake.random_of("x"))[0]]) / RECORD
    init = {"study": "base_1", "train": ["omc", "miic"], "repeat": 0, "sha256": "0" * 64}
    file.write_text(json.dumps(json.loads(file.read_text()) | {"init": init}))
    (block,) = scores(read_study(tmp_path), ACCURACY).blocks
    assert "Fine-tuned: training started from the weights of study base_1, trained on omc+miic." in block.conventions


@pytest.mark.parametrize("given", ["base", "base:omc-syn", "./shared/base", "{}/shared/base:omc-syn", "shared/base/"])
def test_study_to_start_from_is_a_name_or_a_path(call: Call, trained: Path, given: str) -> None:
    shutil.copytree(trained, "shared/base" if "/" in given else "results/base")
    code, out, err = call(*tiny_run("--study", "chip", "--init-from", given.format(Path.cwd()), "--dry-run"))
    assert (code, err) == (0, "")
    assert "Runs start from the weights of study base, trained on omc-syn" in out


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("../base", r"--init-from ../base: no such folder; expected a study's folder, or its name below results"),
        ("results/chip/", "--init-from chip: a study cannot start from itself"),
        (":omc", "--init-from ':omc': expected a plain name"),
        (".", "--init-from .*: no runs in .*; expected a study's folder or name"),
    ],
)
def test_wrong_study_to_start_from_is_one_message(call: Call, given: str, message: str) -> None:
    Path("results/chip/runs").mkdir(parents=True)
    code, _, err = call(*tiny_run("--study", "chip", "--init-from", given))
    assert (code, len(err.splitlines())) == (2, 1)
    assert re.search(message, err), err


@pytest.mark.slow
def test_new_chip_from_the_command_line(call: Call, trained: Path) -> None:
    shutil.copytree(trained, "results/base")
    again = [*tiny_run("--study", "chip", "--init-from", "base:omc-syn"), *settings("seed=1")[-2:]]
    again[again.index("omc-syn")] = "miic-syn"
    code, out, err = call(*again)
    assert code == 0, err
    assert "Runs start from the weights of study base, trained on omc-syn" in out
    record = json.loads(Path("results/chip/runs/miic-syn/tinynet/0/record.json").read_text())
    kept = Path("results/base/runs/omc-syn/tinynet/0/best.safetensors")
    assert record["init"]["sha256"] == hashlib.sha256(kept.read_bytes()).hexdigest()
    assert "Fine-tuned" in Path("results/chip/report/tables/accuracy.md").read_text()
    code, out, _ = call(*again)
    assert code == 0
    assert "[1/1]" not in out
