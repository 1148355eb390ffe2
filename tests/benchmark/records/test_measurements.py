"""Tests which figures of other studies a study takes over."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmark.config import registry
from benchmark.devices import facts
from benchmark.records import claims, environment
from benchmark.records.efficiency_record import MEASURING, EfficiencyRecord, EfficiencySettings, Form, Origin
from benchmark.records.measurements import Figures, would_be_measured_again
from tests.benchmark.report import fake

(UNET,) = registry.select("unet")


@pytest.fixture
def record(tmp_path: Path) -> EfficiencyRecord:
    """Figures that study ``other`` measured here just now; study ``mine`` has figures too."""
    origin = Origin(
        machine=claims.machine(), measuring=MEASURING, variables=environment.kernel_variables(), measured="now"
    )
    changes = {"model_version": UNET.version, "torch": torch.__version__, "origin": origin, "name": facts.cpu_name()}
    for study in ("mine", "other"):
        fake.write_efficiency(tmp_path / study, "unet", **changes)
    ((study, record),) = Figures(tmp_path / "mine", "cpu").elsewhere("unet.96x96.cpu.float32.json")
    assert study == "other"
    return record


@pytest.mark.parametrize(
    "changes",
    [
        {"origin": None},
        {"hindered": ("load",)},
        {"weights": "0" * 16},
        {"model_version": 99},
        {"threads": 3},
        {"torch": "1.0"},
    ],
)
def test_figures_are_taken_over_if_they_would_be_measured_again(
    record: EfficiencyRecord, changes: dict[str, object]
) -> None:
    settings = EfficiencySettings.for_device("cpu")
    assert would_be_measured_again(record, UNET, "cpu", 2, settings)
    assert not would_be_measured_again(record.model_copy(update=changes), UNET, "cpu", 2, settings)


def test_settings_of_a_form_are_of_that_form() -> None:
    forms: tuple[Form, ...] = ("eager", "graph", "compile")
    assert tuple(EfficiencySettings.for_device("cuda", form).form for form in forms) == forms
