"""Records, counts and methods without training that do not belong together are named."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmark.data.splits import Division
from benchmark.records import claims
from benchmark.records.run_record import KeyParts
from benchmark.records.store import Shared, Store
from benchmark.report import merge
from benchmark.report.build import check
from benchmark.report.contradictions import contradictions, divided
from benchmark.report.read import read_study
from benchmark.report.redact import redact_study
from benchmark.report.tables import accuracy_table
from tests.benchmark.report import fake
from tests.benchmark.report.tables.test_accuracy_table import VOID, image

OTSU = "references/omc-syn.otsu.csv"
NAMES = [f"{number}.png" for number in range(8)]


@pytest.fixture
def study(tmp_path: Path) -> Path:
    folder = fake.write_study(tmp_path / "study", ["unet", "fcn"], ["omc-syn"], repeats=1)
    shared = Shared("d", fake.protocol().digest(), 1)  # as the runs' records have it
    Store(folder).write_split("omc-syn", shared, [Division((), (), tuple(range(8)))], NAMES)
    return folder


def split(folder: Path, **changes: object) -> None:
    file = Store(folder).split_file("omc-syn")
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def other_images(folder: Path) -> None:
    file = folder / OTSU
    file.write_text(file.read_text().replace("7.png", "8.png"))


def other_frames(folder: Path) -> None:
    file = folder / OTSU
    file.write_text(file.read_text().replace("7.png,g3", "7.png,g9"))


WRONG = [
    (other_images, "tested on other images than the runs"),
    (other_frames, "tested on other images than the runs"),
    (lambda folder: split(folder, fingerprint="e"), "made from other content of the dataset than the runs"),
    (lambda folder: split(folder, protocol="e"), "made under other settings than the study's protocol.toml"),
    (lambda folder: split(folder, behaviour=2), "counted by another release's rules than the runs"),
]


def methods(folder: Path) -> list[str]:
    (block,) = accuracy_table.scores(read_study(folder), accuracy_table.ACCURACY).blocks
    return [row.key for row in block.rows if row.family == "reference"]


@pytest.mark.parametrize(("spoil", "reason"), WRONG)
def test_rows_that_are_not_of_the_runs_are_left_out_and_named(
    study: Path, spoil: Callable[[Path], None], reason: str
) -> None:
    assert methods(study) == ["otsu", "background"]
    spoil(study)
    assert "otsu" not in methods(study)
    (block,) = accuracy_table.scores(read_study(study), accuracy_table.ACCURACY).blocks
    (said,) = (line for line in block.conventions if line.startswith("Left out"))
    assert f"{OTSU} ({reason})" in said
    assert any(line == f"{study}/{OTSU} ({reason}); left out" for line in check(study, plots=()))


def test_rows_of_an_earlier_release_count_where_images_and_content_agree(study: Path) -> None:
    content = json.loads(Store(study).split_file("omc-syn").read_text())
    del content["protocol"], content["behaviour"]
    Store(study).split_file("omc-syn").write_text(json.dumps(content))
    assert methods(study) == ["otsu", "background"]
    Store(study).split_file("omc-syn").unlink()
    assert methods(study) == ["otsu", "background"]


def test_merged_and_redacted_reports_leave_such_rows_out(study: Path) -> None:
    other_images(study)
    other = fake.write_study(study.with_name("other"), ["esnet"], ["omc-syn"], repeats=1)
    digest = fake.protocol().digest()
    for folder in (study, other):
        fake.change(folder, lambda record: {"key_parts": record.key_parts.model_copy(update={"protocol": digest})})
    merged = merge.merge([study, other])
    assert merged.strangers == (f"study/{OTSU} (tested on other images than the runs)",)
    assert redact_study(merged).strangers == merged.strangers


def test_runs_of_different_images_are_named(study: Path) -> None:
    assert list(divided(read_study(study))) == []
    file = study / "runs/omc-syn/fcn/0/images.omc-syn.csv"
    file.write_text(file.read_text().replace("7.png", "8.png"))
    line = "omc-syn: omc-syn/fcn/0 and omc-syn/unet/0 were tested on different images"
    assert list(divided(read_study(study))) == [line]
    assert f"{study}: {line}" in check(study, plots=())


def test_run_that_is_being_done_is_not_called_interrupted(study: Path) -> None:
    folder = fake.write_run(study, "esnet", ["omc-syn"], 0, None, status="interrupted")
    assert len(read_study(study).runs) == 3
    with claims.acquire(folder):  # type: ignore[union-attr]
        assert len(read_study(study).runs) == 2


@pytest.mark.parametrize(("behaviour", "wrong"), [(2, 0), (3, 1)])
def test_record_that_gave_ignored_images_a_value_is_wrong_from_the_present_rule_on(
    tmp_path: Path, behaviour: int, wrong: int
) -> None:
    fake.write_protocol(tmp_path)
    fake.write_run(tmp_path, "unet", ["omc"], 0, [image(10, 10, 0, 80), VOID])
    parts = KeyParts(protocol="p", data="d", model="unet", behaviour=behaviour, repeat=0)
    fake.change(tmp_path, lambda _: {"key_parts": parts, "metrics": {"omc": {"image": {"dice": 5 / 6}}}})
    assert len(contradictions(tmp_path, read_study(tmp_path))) == wrong


def test_record_of_any_rules_that_differs_from_its_counts_is_wrong(tmp_path: Path) -> None:
    fake.write_protocol(tmp_path)
    fake.write_run(tmp_path, "unet", ["omc"], 0, [image(10, 10, 0, 80)])
    fake.change(tmp_path, lambda _: {"metrics": {"omc": {"image": {"dice": 0.7}}}})
    (line,) = contradictions(tmp_path, read_study(tmp_path))
    assert "dice (image) is 0.7, the counts give 0.6666666666666666" in line


@pytest.mark.parametrize(
    ("name", "pattern", "forged"),
    [
        ("record.json", r'("pooled": {\s*"miou": 0\.\d{4})\d', r"\g<1>"),  # one digit less
        ("images.omc-syn.csv", r"(?m)^(3.png,g1,0,)(\d+)", r"\g<1>1\2"),
    ],
)
def test_record_that_its_counts_do_not_give_is_named(study: Path, name: str, pattern: str, forged: str) -> None:
    run = study / "runs/omc-syn/unet/0"
    text, changes = re.subn(pattern, forged, (run / name).read_text())
    assert changes == 1
    (run / name).write_text(text)
    (line,) = contradictions(study, read_study(study))
    assert line.startswith(f"{run}/record.json: does not agree with images.omc-syn.csv beside it: ")
    assert re.search(r"miou \((image|pooled)\) is 0\.\d+, the counts give 0\.\d+$", line)
