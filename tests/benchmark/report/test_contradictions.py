"""Records against the counts beside them, under the rules that they were made by."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.records.run_record import KeyParts
from benchmark.report.contradictions import contradictions
from benchmark.report.read import read_study
from tests.benchmark.report import fake
from tests.benchmark.report.tables.test_accuracy_table import VOID, image


@pytest.mark.parametrize(("behaviour", "wrong"), [(2, 0), (3, 1)])
def test_a_record_that_gave_ignored_images_a_value_is_wrong_from_the_present_rule_on(
    tmp_path: Path, behaviour: int, wrong: int
) -> None:
    fake.write_protocol(tmp_path)
    fake.write_run(tmp_path, "unet", ["omc"], 0, [image(10, 10, 0, 80), VOID])
    parts = KeyParts(protocol="p", data="d", model="unet", behaviour=behaviour, repeat=0)
    fake.change(tmp_path, lambda _: {"key_parts": parts, "metrics": {"omc": {"image": {"dice": 5 / 6}}}})
    assert len(contradictions(tmp_path, read_study(tmp_path))) == wrong


def test_a_record_of_any_rules_that_differs_from_its_counts_is_wrong(tmp_path: Path) -> None:
    fake.write_protocol(tmp_path)
    fake.write_run(tmp_path, "unet", ["omc"], 0, [image(10, 10, 0, 80)])
    fake.change(tmp_path, lambda _: {"metrics": {"omc": {"image": {"dice": 0.7}}}})
    (line,) = contradictions(tmp_path, read_study(tmp_path))
    assert "dice (image) is 0.7, the counts give 0.6666666666666666" in line
