"""Losses, transforms and metrics of installed packages: used by name, and part of a run's key."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmark import metrics
from benchmark.config import extension_code
from benchmark.config.protocol import load_protocol, protocol_differences
from benchmark.config.training_settings import Loss, Photometric
from benchmark.data import photometric
from benchmark.records.run_record import Failure, Record
from benchmark.records.store import Store
from benchmark.report.read import read_study
from benchmark.runs.jobs import TrainJob
from benchmark.runs.perform import perform_job
from benchmark.training.losses import segmentation_loss
from benchmark.utils.errors import UserError
from tests.benchmark.conftest import LAB, LAB_POINTS, SMALL, Call, tiny_run

Install = Callable[..., None]
USED = ["loss.name=hinge", 'photometric.transforms=["speckle"]']


def test_code_in_use_is_part_of_the_key_and_its_change_is_told(install_lab: Install) -> None:
    install_lab("1.0")
    first = load_protocol("quick", USED)
    assert first.extensions == {"losses.hinge": "lab 1.0", "transforms.speckle": "lab 1.0"}
    assert load_protocol("quick", USED).digest() == first.digest()
    install_lab("1.1")
    second = load_protocol("quick", USED)
    assert second.digest() != first.digest()
    assert protocol_differences(first, second)[0] == "extensions.losses.hinge: 'lab 1.0' -> 'lab 1.1'"
    assert load_protocol("quick").extensions == {}  # nothing of it is in use


def test_study_can_be_read_without_the_package_and_its_protocol_serves_again(
    install_lab: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_lab("1.0")
    protocol = load_protocol("quick", [*USED, "loss.name=scnp", "loss.scnp_inside=hinge"])
    Store(tmp_path / "study").write_protocol(protocol)
    install_lab("1.1")
    again = load_protocol(tmp_path / "study" / "protocol.toml")
    assert set(again.extensions.values()) == {"lab 1.1"}
    install_lab(points="")
    assert Store(tmp_path / "study").read_protocol() == protocol
    with pytest.raises(UserError, match=r"loss\.scnp_inside: found 'hinge'; expected bce_dice, .* losses by entry"):
        load_protocol(tmp_path / "study" / "protocol.toml")


def test_runs_use_the_package_and_records_hold_the_built_in_metrics_alone(
    install_lab: Install, make_job: Callable[..., TrainJob], tmp_path: Path
) -> None:
    results = {}
    for name, used in (("plain", []), ("hinge", USED[:1]), ("speckle", USED[1:])):
        install_lab()
        job = make_job(load_protocol("quick", [*SMALL, *used]), name=name)
        Store(tmp_path / name).write_protocol(job.protocol)
        record = perform_job(job, lambda *_: None)
        assert isinstance(record, Record)
        assert "errors" not in record.metrics["omc-syn"]["pooled"]
        results[name] = [record.training.best_validation_loss if record.training else 0, record.metrics]
        scores = read_study(tmp_path / name).runs[0].scores["omc-syn"]
        assert scores.reduced["pooled"]["errors"] == scores.columns["fp"].sum() + scores.columns["fn"].sum()
    assert results["plain"] != results["hinge"] != results["speckle"] != results["plain"]


def test_run_whose_package_has_changed_since_the_plan_fails(
    install_lab: Install, make_job: Callable[..., TrainJob]
) -> None:
    install_lab("1.0")
    job = make_job(load_protocol("quick", [*SMALL, *USED]))
    install_lab("1.1")
    outcome = perform_job(job, lambda *_: None)
    assert isinstance(outcome, Failure)
    assert "'losses.hinge': 'lab 1.0'" in outcome.message
    assert "'losses.hinge': 'lab 1.1'" in outcome.message


def test_files_of_an_editable_package_count(install_lab: Install, tmp_path: Path) -> None:
    install_lab()
    (tmp_path / "site-packages").rename(tmp_path / "src")
    sys.path[0] = str(tmp_path / "src")
    before = load_protocol("quick", USED).extensions
    with (tmp_path / "src/lab_extensions.py").open("a") as file:
        file.write("# edited\n")
    after = load_protocol("quick", USED).extensions
    assert before.keys() == after.keys()
    assert not {*before.values()} & {*after.values()}
    assert not any("lab" in code for code in after.values())


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "loss.name=hinje",
            r"loss\.name: found 'hinje'; did you mean 'hinge'\?; expected bce_dice, focal, .*, scnp, hinge",
        ),
        ("loss.name=focl loss.focal_gamma=3", r"loss\.name: found 'focl'; did you mean 'focal'\?"),
        ("loss.name=cldise", r"did you mean 'cldice'\?"),
        ('photometric.transforms=["speckel"]', r"photometric\.transforms: found 'speckel'; did you mean 'speckle'\?"),
        ("extensions.x=1", r"extensions\.x=1': extensions follows from the installed packages in use; leave it out"),
    ],
)
def test_unknown_names_are_refused(install_lab: Install, override: str, message: str) -> None:
    install_lab()
    with pytest.raises(UserError, match=message):
        load_protocol("quick", override.split())


def test_loss_of_a_package_does_not_take_a_built_in_name(install_lab: Install) -> None:
    install_lab(points="[eal_icnet_benchmark.losses]\nfocal = lab_extensions:hinge\n")
    assert load_protocol("quick").extensions == {}
    with pytest.raises(UserError, match=r"entry point 'focal' of .*losses': the name is taken; rename it"):
        load_protocol("quick", ["loss.name=focal"])


def test_scnp_is_not_inside_itself() -> None:
    with pytest.raises(UserError, match=r"loss\.scnp_inside: found 'scnp'.*expected bce_dice, focal"):
        load_protocol("quick", ["loss.name=scnp", "loss.scnp_inside=scnp"])


@pytest.mark.parametrize(
    ("code", "message"),
    [("1 / 0", "cannot be imported .ZeroDivisionError"), ("hinge = 1", "entry point 'hinge' of .* is no function")],
)
def test_package_that_cannot_be_used_is_named(install_lab: Install, code: str, message: str) -> None:
    install_lab(code=code)
    with pytest.raises(UserError, match=message):
        load_protocol("quick", USED[:1])


def test_command_line_refuses_an_unknown_loss(call: Call) -> None:
    code, _, err = call(*tiny_run("--set", "loss.name=hinge"))
    assert code == 2
    assert "loss.name: found 'hinge'; expected bce_dice" in err
    assert "Traceback" not in err


def test_results_of_a_wrong_form_are_refused(install_lab: Install) -> None:
    install_lab()
    logits = torch.zeros(2, 1, 4, 4)
    with pytest.raises(UserError, match=r"loss\.name=per_image: returned \(2,\); expected a tensor of one number"):
        segmentation_loss(logits, logits, Loss(name="per_image"))
    with pytest.raises(UserError, match=r"crop returned \(2, 1, 4, 3\); expected a tensor of \(2, 1, 4, 4\)"):
        photometric.change(logits, Photometric(transforms=("crop",)), np.random.default_rng(0))


def test_ignored_pixels_never_enter_a_package_s_loss(install_lab: Install) -> None:
    install_lab()
    mask, counted = torch.zeros(1, 1, 2, 2), torch.tensor([[[[1.0, 1.0], [1.0, 0.0]]]])
    results = []
    for value in (-3.0, 100.0):
        logits = torch.tensor([[[[0.5, -2.0], [1.0, value]]]], requires_grad=True)
        loss = segmentation_loss(logits, mask, Loss(name="hinge"), counted)
        loss.backward()  # type: ignore[no-untyped-call]
        assert logits.grad is not None
        assert logits.grad[0, 0, 1, 1] == 0
        results.append(loss.item())
    assert results == [pytest.approx((1.5 + 0 + 2) / 3)] * 2


def test_transform_repeats_from_its_seed_and_stays_in_range(install_lab: Install) -> None:
    install_lab()
    images, settings = torch.full((2, 1, 8, 8), 0.9), Photometric(transforms=("speckle",))
    first, again, other = (photometric.change(images, settings, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert float(first.max()) == 1.0


def test_transform_that_comes_twice_draws_anew(install_lab: Install) -> None:
    install_lab()
    once, twice = (Photometric(transforms=("speckle",) * times) for times in (1, 2))
    images = torch.full((1, 1, 8, 8), 0.1)
    first, second = (photometric.change(images, each, np.random.default_rng(0)) for each in (once, twice))
    assert not torch.allclose(second / first, first / images)


def test_metric_of_a_package_is_listed_and_explained(install_lab: Install, call: Call) -> None:
    install_lab()
    assert metrics.METRICS["errors"].display == "Wrong pixels"
    assert list(metrics.METRICS)[-1] == "errors"
    assert "errors" not in metrics.BUILTIN
    assert "Wrong pixels" in call("list", "metrics")[1]
    assert "fp + fn" in call("explain", "errors")[1]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"fp", "fn"', '"fp", "wrong"', "no column 'wrong'; expected columns out of ignored, "),
        ('name="errors"', 'name="mistakes"', "calls itself 'mistakes'; expected the entry point's name"),
        ("errors = Metric(", "errors = dict(", "found dict; expected a benchmark.metrics.Metric"),
    ],
)
def test_wrong_metric_is_refused(install_lab: Install, call: Call, old: str, new: str, message: str) -> None:
    install_lab(code=LAB.replace(old, new))
    code, _, err = call("list", "metrics")
    assert code == 2
    assert message in err


def test_metric_with_a_taken_name_is_refused(install_lab: Install) -> None:
    install_lab(points=LAB_POINTS.replace("errors =", "miou ="))
    with pytest.raises(UserError, match=r"'miou' of 'eal_icnet_benchmark\.metrics': the name is taken"):
        list(metrics.METRICS)


def test_metric_that_cannot_be_imported_is_missing_and_breaks_no_other(
    install_lab: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install_lab(points=LAB_POINTS.replace("errors = lab_extensions", "errors = lab_elsewhere"))
    assert metrics.METRICS["miou"] is metrics.BUILTIN["miou"]
    assert list(metrics.METRICS) == list(metrics.BUILTIN)
    assert "errors" not in metrics.METRICS
    err = capsys.readouterr().err
    assert err.count("warning: entry point 'errors' = 'lab_elsewhere:errors'") == 1
    assert "cannot be imported (ModuleNotFoundError" in err


def test_nothing_is_identified_where_nothing_is_installed() -> None:
    assert extension_code.identities(load_protocol("quick")) == {}
