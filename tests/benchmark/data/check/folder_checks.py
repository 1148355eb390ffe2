"""Dataset folders and their checks for the tests of `data verify`."""

from __future__ import annotations

from pathlib import Path

from benchmark.config.protocol import Protocol, load_protocol
from benchmark.data.check.findings_table import FindingRow, Verification
from benchmark.data.check.survey import DatasetFolder
from benchmark.data.check.verify import verify_dataset
from benchmark.data.specs import DatasetSpec
from tests.benchmark.data.folder_makers import add_pair, picture

STEMS = "abcdefghij"
PARTS = ("train", "val", "test")


def protocol(*overrides: str, preset: str = "strict") -> Protocol:
    return load_protocol(preset, ["input.size=64", *overrides])


def check(root: Path, *overrides: str, preset: str = "strict", **how: object) -> Verification:
    spec = DatasetSpec(name="mychip", **how)
    return verify_dataset(DatasetFolder("mychip", root, spec=spec), protocol(*overrides, preset=preset), windows=0)


def row(verification: Verification, name: str) -> FindingRow:
    (one,) = (row for row in verification.rows if row.name == name)
    return one


def with_parts(root: Path) -> Path:
    """Write a division whose images all differ."""
    for offset, part in enumerate(PARTS):
        for index in range(3):
            add_pair(root / part, f"{part}{index}", picture(100 * offset + index))
    return root
