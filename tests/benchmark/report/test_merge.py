"""Studies merged into one report, against one study that held all of their runs, and what is refused and why."""

from __future__ import annotations

import csv
import io
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmark.records.asked_runs import AskedRuns
from benchmark.records.run_record import Failure, Initial, Record, TrainingFacts
from benchmark.records.store import Store
from benchmark.report.build import PaperChoice, build, check
from benchmark.report.merge import merge
from benchmark.report.page import page_summary
from benchmark.report.read import read_study
from benchmark.report.tables import accuracy_table, efficiency_table
from benchmark.utils.errors import UserError
from tests.benchmark.report import fake

MODELS = ["eal_icnet", "unet", "fcn"]
GPU = "NVIDIA H100 80GB HBM3"
LOST = Failure(kind="nan_loss", message="the training loss became NaN in step 37")


def parts(record: Record, **changes: object) -> dict[str, object]:
    return {"key_parts": record.key_parts.model_copy(update=changes)}


def settled(folder: Path) -> Path:
    """Let a study's records be of the settings that its protocol has, trained for a while."""
    protocol = Store(folder).read_protocol()
    assert protocol is not None

    def facts(record: Record) -> dict[str, object]:
        seconds = fake.random_of(record.model, record.repeat).uniform(10, 20)
        training = TrainingFacts(
            rounds=2, steps=60, best_round=2, best_validation_loss=0.2, seconds=seconds, images_per_second=20.0,
            train_images=48, validation_images=8, test_images=8, split="s",
        )  # fmt: skip
        return parts(record, protocol=protocol.digest()) | ({"training": training} if record.status == "ok" else {})

    fake.change(folder, facts)
    return folder


def study(folder: Path, models: list[str], datasets: tuple[str, ...] = ("omc-syn", "miic-syn")) -> Path:
    return settled(fake.write_study(folder, models, datasets, repeats=2))


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    """Two studies of other models."""
    return study(tmp_path / "one", MODELS[:1]), study(tmp_path / "two", MODELS[1:])


def written(place: Path, *merged: Path) -> dict[str, str]:
    """Build a report and return its tables; the page, which names its folder, is looked at apart."""
    built = build(place, merged=merged, plots=())
    return {path.name: path.read_text("utf-8") for path in built if path.name != "index.html"}


def csv_rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_other_machine_s_models_make_the_tables_of_one_study_that_held_all(
    tmp_path: Path, two: tuple[Path, Path]
) -> None:
    whole = written(study(tmp_path / "whole", MODELS))
    choice = PaperChoice(columns=("miou", "params", "fps"), layout="wide")
    build(tmp_path / "whole", choice, plots=())

    merged = written(tmp_path / "one+two", *two)

    assert merged.keys() == whole.keys()
    assert {"accuracy.md", "training.csv", "methods.tex", "networks.md", "efficiency.tex", "numbers.tex"} <= {*merged}
    source = " Merged from the studies one, two."
    for name, text in merged.items():
        if name.endswith((".md", ".tex")) and name not in ("tables.tex", "numbers.tex"):
            assert text.count(source) == text.count("\n## ") + text.count("\\caption[")
        assert text.replace(source, "") == whole[name], name

    build(tmp_path / "one+two", choice, merged=two, plots=())
    custom = [
        (place / "report/tables/custom.md").read_text("utf-8") for place in (tmp_path / "one+two", tmp_path / "whole")
    ]
    assert custom[0].count(source) == 1
    assert custom[0].replace(source, "") == custom[1]


def test_runs_that_no_study_has_finished_are_named(two: tuple[Path, Path]) -> None:
    asked = AskedRuns(datasets=((("omc-syn",), ("omc-syn",)),), models=("eal_icnet", "unet", "letnet"), repeats=2)
    asked.write(two[0])  # of which the other study holds unet
    assert [(run.model, run.repeat) for run in merge(two).unfinished] == [("letnet", 0), ("letnet", 1)]


def test_order_of_studies_changes_nothing(tmp_path: Path, two: tuple[Path, Path]) -> None:
    third = study(tmp_path / "three", ["fcn", "hrnet"])
    fake.write_efficiency(third, "fcn", name=GPU)
    orders = [(two[0], two[1], third), (third, two[1], two[0])]
    first, second = (written(tmp_path / str(number), *order) for number, order in enumerate(orders))
    assert first == second
    pages = [tmp_path / name / "merged" for name in ("one way", "the other")]
    for page, order in zip(pages, orders, strict=True):
        build(page, merged=order, plots=())
    one, other = ((page / "report/index.html").read_text("utf-8") for page in pages)
    assert one == other
    assert "Merged from the studies one, three, two; 4 runs" in one
    assert "python -m benchmark report one three two" in one
    assert "one, three, two" in first["accuracy.md"]


def test_runs_that_both_hold_count_once(tmp_path: Path, two: tuple[Path, Path]) -> None:
    other = study(tmp_path / "again", MODELS[:2])
    merged = written(tmp_path / "merged", *two, other)
    whole = written(study(tmp_path / "whole", MODELS))
    assert merged["accuracy.csv"] == whole["accuracy.csv"]
    assert merged["training.csv"] == whole["training.csv"]
    assert "studies again, one, two; 8 runs that several hold, counted once." in merged["accuracy.md"]


def test_run_that_failed_on_one_machine_only_has_finished(tmp_path: Path, two: tuple[Path, Path]) -> None:
    other = study(tmp_path / "again", ["eal_icnet"])
    fake.write_run(other, "eal_icnet", ["omc-syn"], 1, None, LOST)
    fake.write_run(two[1], "unet", ["omc-syn"], 1, None, LOST)
    for folder in (other, two[1]):
        settled(folder)
    rows = {row.key: row for row in accuracy_table.scores(merge([*two, other]), accuracy_table.ACCURACY).blocks[0].rows}
    assert (rows["eal_icnet"].cells["miou"].n, rows["eal_icnet"].remark) == (2, "")
    assert (rows["unet"].cells["miou"].n, rows["unet"].remark[:8]) == (1, "repeat 1")


def test_broken_records_are_named_with_their_study_unless_another_has_the_run(
    tmp_path: Path, two: tuple[Path, Path]
) -> None:
    other = study(tmp_path / "again", ["eal_icnet"])
    for folder, model in ((other, "eal_icnet"), (two[1], "unet")):
        (folder / f"runs/omc-syn/{model}/1/record.json").write_text("{")
    text = written(tmp_path / "merged", *two, other)["accuracy.md"]
    assert "Left out, since their records are broken: omc-syn/unet/1 of two." in text.replace("\\", "")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda folder: (fake.write_protocol(folder, "training.weight_decay=0.5"), settled(folder)),
            r"one and two: made under different settings.*: training\.weight_decay: 0\.0 -> 0\.5 \(one -> two\);",
        ),
        (
            lambda folder: fake.write_protocol(folder, "report.reduction=pooled"),
            r"report\.reduction: 'image' -> 'pooled'.* changes no record: write the same into both protocol\.toml",
        ),
        (
            lambda folder: fake.write_protocol(folder, "evaluation.border_px=9"),
            r"two: holds 8 runs made under other settings than its protocol\.toml has, such as miic-syn fcn "
            r"repeat 0;.*`run --study two --replace-stale`",
        ),
        (
            lambda folder: fake.change(folder, lambda record: parts(record, behaviour=9)),
            r"behaviour number of the harness: 1 \(one\) \| 9 \(two\)\. Report.*`diff one two` shows all",
        ),
        (
            lambda folder: (
                study(folder, ["eal_icnet"]),
                fake.change(folder, lambda r: parts(r, model="eal_icnet-v2")),
            ),
            r"network eal_icnet: eal_icnet \(one\) \| eal_icnet-v2 \(two\)\.",
        ),
        (
            lambda folder: fake.change(folder, lambda record: parts(record, data="e"), "omc-syn/*/*"),
            r"content of omc-syn: d \(one\) \| e \(two\)\.",
        ),
        (
            lambda folder: fake.change(
                folder,
                lambda record: {"training": record.training and record.training.model_copy(update={"split": "t"})},
                "omc-syn/unet/1",
            ),
            r"split of omc-syn \(seed 0\): s \(one\) \| s, t \(two\)\.",
        ),
        (
            lambda folder: fake.change(folder, lambda record: {"test": ("omc-syn", "omv-syn")}, "omc-syn/*/*"),
            r"omc-syn is tested on: omc-syn \(one\) \| omc-syn, omv-syn \(two\)\.",
        ),
        (
            lambda folder: fake.change(folder, lambda record: parts(record, init="0" * 16)),
            r"weights that runs start from: random ones \(one\) \| those of another study \(two\)\.",
        ),
        (
            lambda folder: (folder / "runs/omc-syn/unet/1/images.omc-syn.csv").write_text(
                (folder / "runs/omc-syn/unet/1/images.omc-syn.csv").read_text().replace("3.png", "4.jpg")
            ),
            r"test images of omc-syn \(seed 0\): 8 \(\w{8}\) \(one\) \| 8 \(\w{8}\), 8 \(\w{8}\) \(two\)\.",
        ),
        (
            lambda folder: fake.write_counts(
                folder / "references/omc-syn.otsu.csv", fake.counts(0.69, fake.random_of("omc-syn"))
            ),
            r"otsu on omc-syn: miou \(image\) is 0\.\d+ in one and 0\.\d+ in two, though",
        ),
        (
            lambda folder: fake.write_efficiency(folder, "eal_icnet", model_version=2),
            r"efficiency of eal_icnet at 96×96: measured of different networks: version 1, \d+ parameters, \d+ MACs "
            r"\(one\) \| version 2, \d+ parameters, \d+ MACs \(two\); measure it again",
        ),
    ],
)
def test_what_must_not_share_a_table_is_refused_with_its_values_and_a_remedy(
    two: tuple[Path, Path], spoil: Callable[[Path], object], message: str
) -> None:
    merge(two)
    spoil(two[1])
    with pytest.raises(UserError, match=f"(?is){message}"):
        merge(two)


def test_same_run_with_other_numbers_is_refused(tmp_path: Path, two: tuple[Path, Path]) -> None:
    other = study(tmp_path / "two", ["eal_icnet"])
    fake.write_run(other, "eal_icnet", ["miic-syn"], 1, fake.counts(0.5, fake.random_of("other")))
    settled(other)
    values = [read_study(folder).runs[1].scores["miic-syn"].reduced["image"]["miou"] for folder in (two[0], other)]
    expected = (
        f"miic-syn eal_icnet repeat 1 tested on miic-syn: mIoU (image) is {values[0]!r} in one and {values[1]!r} in two"
    )
    with pytest.raises(UserError, match=rf"{re.escape(expected)}, though .*`diff one two` shows"):
        merge([two[0], other])


def test_networks_that_were_tuned_from_different_studies_are_refused(two: tuple[Path, Path]) -> None:
    for folder, origin in zip(two, ("lab", "fab"), strict=True):
        init = Initial(study=origin, train=("omc",), repeat=0, sha256="0" * 64)
        fake.change(folder, lambda record, init=init: parts(record, init="0" * 16) | {"init": init}, "*/*/*")
    with pytest.raises(
        UserError, match=r"on omc-syn \(seed 0\) start from: lab, trained on omc \(one\) \| fab, trained"
    ):
        merge(two)


def test_devices_share_no_column_and_a_setting_that_was_measured_twice_is_of_the_larger_study(
    tmp_path: Path, two: tuple[Path, Path]
) -> None:
    for model, p50 in (("eal_icnet", 7.0), ("unet", 8.0)):
        fake.write_efficiency(tmp_path / "gpu", model, device="cuda", name=GPU, latency=latency(p50))
    fake.write_efficiency(tmp_path / "few", "unet", device="cuda", name=GPU, latency=latency(12.0))
    merged = merge([*two, tmp_path / "few", tmp_path / "gpu"])
    blocks = {str(block.facts["device"]): block for block in efficiency_table.efficiency(merged).blocks}
    assert blocks.keys() == {fake.CPU, GPU}
    rows = {row.key: row for row in blocks[GPU].rows}
    assert (rows["eal_icnet"].cells["latency_p50_ms"].mean, rows["unet"].cells["latency_p50_ms"].mean) == (7.0, 8.0)
    assert rows["unet"].remark == (
        "the median latency is 8.00 ms in gpu, whose figures stand here, and 12.00 ms in few"
    )
    assert rows["eal_icnet"].remark == ""
    text = written(tmp_path / "gpus", tmp_path / "few", tmp_path / "gpu")["efficiency.md"]
    assert "Merged from the studies few, gpu." in text


def latency(p50: float) -> object:
    from benchmark.records.efficiency_record import Conditions, Latency

    moment = Conditions(clock_mhz=2600.0, load_average=1.0)
    return Latency.from_raw([p50] * 30, moment, moment)


def test_merged_report_is_checked_as_any_other(tmp_path: Path, two: tuple[Path, Path]) -> None:
    place = tmp_path / "one+two"
    build(place, merged=two, plots=())
    assert check(place, two[::-1], plots=()) == []
    (place / "report/tables/accuracy.md").write_text("by hand")
    image_counts = two[1] / "runs/omc-syn/unet/0/images.omc-syn.csv"
    image_counts.write_text(re.sub(r"(?m)^(3.png,g1,0,)(\d+)", r"\g<1>1\2", image_counts.read_text()))
    wrong = check(place, two, plots=())
    assert f"{place / 'report/tables/accuracy.md'}: differs from the records" in wrong
    assert any("two/runs/omc-syn/unet/0/record.json: does not agree" in line for line in wrong)


def test_networks_of_fewer_repeats_are_neither_marked_nor_ranked(tmp_path: Path) -> None:
    three = settled(fake.write_study(tmp_path / "three", MODELS[:2], ["omc-syn"], repeats=3))
    fake.write_protocol(tmp_path / "one", "repeats=1")
    fake.write_run(tmp_path / "one", "fcn", ["omc-syn"], 0, fake.counts(0.99, fake.random_of("best")))
    settled(tmp_path / "one")
    merged = merge([three, tmp_path / "one"])
    (block,) = accuracy_table.scores(merged, accuracy_table.ACCURACY).blocks
    assert {row for row, _ in block.marks()} == {"eal_icnet", "unet"}
    result = page_summary.summarise(merged, accuracy_table.Table("accuracy", "Accuracy", (block,)), "eal_icnet")
    assert result.leaders[0].best.label != "FCN"
    assert result.leaders[0].models == 2
    facts = dict(result.facts)
    assert facts["Repeats"] == "n = 1 to 3 trainings from different seeds per model and dataset"
    assert "Repeats that were asked for: 1 in one, 3 in three." in facts["Origin"]
    assert "repeats:" not in facts["Protocol"]


def test_single_study_says_nothing_of_merging(tmp_path: Path, two: tuple[Path, Path]) -> None:
    shutil.rmtree(two[1])
    assert not any("Merged" in text for text in written(two[0]).values())
