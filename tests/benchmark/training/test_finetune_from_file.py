"""Fine-tuning from a file of weights that no study of this harness made."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmark.config.protocol import Protocol
from benchmark.records.run_record import Initial
from benchmark.records.store import RECORD
from benchmark.report.page.origin import commands
from benchmark.report.read import read_study
from benchmark.report.tables.accuracy_table import ACCURACY, scores
from benchmark.runs.train import build_network, train_and_test
from benchmark.study.execute import execute
from benchmark.study.plan import make_plan
from benchmark.study.study import Study
from benchmark.training.finetune import start_of
from benchmark.utils.errors import UserError
from tests.benchmark.conftest import Call, tiny_run
from tests.benchmark.pretend import Pretend
from tests.benchmark.report import fake
from tests.benchmark.tiny import TinyNet
from tests.benchmark.training.test_finetune import MakeStudy


@pytest.fixture
def file(tmp_path: Path) -> Path:
    torch.manual_seed(7)
    torch.save({f"module.{name}": value for name, value in TinyNet().state_dict().items()}, tmp_path / "lab.pth")
    return tmp_path / "lab.pth"


def tuned(make_study: MakeStudy, small: Protocol, file: Path, name: str = "tuned") -> Study:
    study = make_study(small, name=name)
    study.start = start_of(str(file), Path("results"), study.folder, ["tinynet"])
    return study


def test_every_repeat_begins_with_exactly_these_weights_and_its_record_names_them(
    small: Protocol, make_study: MakeStudy, file: Path
) -> None:
    plan, plain = make_plan(tuned(make_study, small, file)), make_plan(make_study(small, name="plain"))
    torch.manual_seed(7)
    expected, digest = TinyNet().state_dict(), hashlib.sha256(file.read_bytes()).hexdigest()
    assert len(plan.todo) == 3
    for job in plan.todo:
        result = build_network(job).state_dict()
        assert all(torch.equal(result[name], value) for name, value in expected.items())
        assert job.key_parts.init == digest[:16]
    assert {job.key for job in plan.todo}.isdisjoint(job.key for job in plain.todo)
    record = train_and_test(plan.todo[0], lambda *_: None)
    assert record.init == Initial(study="lab.pth", sha256=digest)


def test_other_weights_under_the_same_name_make_runs_stale_and_the_unknown_is_said(
    small: Protocol, make_study: MakeStudy, file: Path
) -> None:
    events: list[Any] = []
    study = tuned(make_study, small, file)
    execute(study, make_plan(study), Pretend(), events.append)
    notes = [event.text for event in events if hasattr(event, "text")]
    assert "whether the weights have seen test images is unknown: lab.pth does not tell" in notes
    assert len(make_plan(tuned(make_study, small, file)).done) == 3
    torch.save(TinyNet().state_dict(), file)
    with pytest.raises(UserError, match=r"start from: lab\.pth \(\w{8}\) -> lab\.pth \(\w{8}\)"):
        make_plan(tuned(make_study, small, file))


def test_weights_of_another_network_are_refused_before_any_work(
    small: Protocol, make_study: MakeStudy, file: Path
) -> None:
    torch.save(TinyNet(3).state_dict(), file)
    study, executor = tuned(make_study, small, file), Pretend()
    with pytest.raises(
        UserError, match=r"lab\.pth: does not fit the network: features\.weight is 4x1x3x3 here and 4x3"
    ):
        execute(study, make_plan(study), executor, lambda _: None)
    assert executor.jobs == []
    assert not study.folder.exists()


def test_command_says_where_runs_start_from_and_refuses_several_networks(call: Call, file: Path) -> None:
    code, out, err = call(*tiny_run("--init-from", "lab.pth", "--dry-run"))
    assert (code, err) == (0, "")
    assert "Runs start from the weights of file lab.pth" in out
    code, _, err = call(*tiny_run("--init-from", "lab.pth", "--models", "fcn,unet"))
    assert (code, len(err.splitlines())) == (2, 1)
    assert "--init-from lab.pth: weights of one network; expected one in --models, found 2 (fcn, unet)" in err


def test_tables_and_the_command_that_repeats_the_study_name_the_file(tmp_path: Path) -> None:
    fake.write_protocol(tmp_path)
    run = fake.write_run(tmp_path, "unet", ["mychip"], 0, [fake.counts(0.9, fake.random_of("x"))[0]]) / RECORD
    run.write_text(json.dumps(json.loads(run.read_text()) | {"init": {"study": "lab.pth", "sha256": "0" * 64}}))
    study = read_study(tmp_path)
    (block,) = scores(study, ACCURACY).blocks
    assert "Fine-tuned: training started from the weights of file lab.pth." in block.conventions
    assert any(line.endswith("--init-from lab.pth") for line in commands(study, "quick"))


def test_pretrained_encoder_beside_it_is_refused(small: Protocol, make_study: MakeStudy, file: Path) -> None:
    training = small.training.model_copy(update={"encoder_weights": "imagenet"})
    study = tuned(make_study, small.model_copy(update={"training": training}), file)
    with pytest.raises(UserError, match=r"--init-from \S*lab\.pth and training\.encoder_weights: give one"):
        make_plan(study)
