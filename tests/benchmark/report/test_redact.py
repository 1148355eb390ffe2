"""Reports that may leave the house: no names of images, messages, paths or pictures in any of their files."""

from __future__ import annotations

import csv
import re
import shutil
import zipfile
from dataclasses import fields, replace
from pathlib import Path

import pytest
from PIL import Image

from benchmark.records.asked_runs import UnfinishedRun
from benchmark.records.run_record import Failure, Initial
from benchmark.records.speedup_record import RuntimeTimes
from benchmark.report.build import PaperChoice, build
from benchmark.report.read import StudyResults, read_study
from benchmark.report.redact import redact_study, rename_study
from benchmark.report.tables.conventions import stand_ins
from benchmark.utils.errors import UserError
from tests.benchmark.conftest import Call
from tests.benchmark.report import fake
from tests.benchmark.report.test_merge import settled
from tests.benchmark.speedup.test_compare import comparison

SECRETS = ("wafer", "dieshot", "lot42", "jane", "secret")


@pytest.fixture
def study(tmp_path: Path) -> Path:
    folder = fake.write_study(tmp_path / "results/quick", ["unet", "eal_icnet", "fcn"], ["omc-syn"], repeats=3)
    for file in (*folder.glob("runs/*/*/*/images.*.csv"), *folder.glob("references/*.csv")):
        file.write_text(re.sub(r"(?m)^(\d)\.png,g(\d)", r"wafer\1-dieshot.png,lot42-\2", file.read_text()))
    failure = Failure(kind="bad_input", message="wafer3-dieshot.png: not an image", log="secret of jane: wafer3")
    fake.write_run(folder, "unet", ["omc-syn"], 1, None, failure)
    (folder / "runs/omc-syn/unet/2/record.json").write_text('{"secret": 1}')
    (folder / "report/panels").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(folder / "report/panels/omc-syn.hardest.png")
    return folder


def test_redacted_report_holds_no_secret_and_is_checked(study: Path, call: Call) -> None:
    shutil.rmtree(study / "efficiency")  # whose plots take most of the time
    code, out, err = call("report", "quick", "--redact", "-v")
    assert code == 0, err
    folder = study / "report-redacted"
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {str(path.relative_to(study.parents[1])) for path in files} == {
        line for line in out.splitlines() if ":" not in line
    }
    assert {path.suffix for path in files} >= {".html", ".csv", ".tex", ".md", ".pdf", ".png"}
    assert not (folder / "panels").exists()
    for path in files:
        content = path.read_bytes().lower()
        assert not [word for word in SECRETS if word.encode() in content], path
        assert str(study.parents[1]).encode() not in path.read_bytes()
    page = (folder / "index.html").read_text("utf-8")
    assert "<strong>Redacted.</strong>" in page
    assert "Names of datasets, models and studies are as they are" in page
    assert "<img" not in page
    assert "<strong>bad_input</strong>: message withheld" in page
    assert "omc-syn/unet/2" in page
    # The other report is not touched.
    assert [path.name for path in (study / "report").rglob("*") if path.is_file()] == ["omc-syn.hardest.png"]
    assert call("report", "quick", "--redact", "--check")[0] == 0
    (folder / "index.html").write_text("wafer")
    code, out, _ = call("report", "quick", "--redact", "--check")
    assert code == 1
    assert out == "results/quick/report-redacted/index.html: differs from the records\n"


def test_every_number_is_the_same(study: Path) -> None:
    build(study, plots=())
    build(study, redact=True, plots=())
    for file in sorted((study / "report/tables").glob("*.csv")):
        plain, redacted = (
            [
                {key: value for key, value in row.items() if key != "remark"}
                for row in csv.DictReader(path.read_text("utf-8").splitlines())
            ]
            for path in (file, study / "report-redacted/tables" / file.name)
        )
        assert plain == redacted, file.name


def test_images_become_numbers_that_stay_apart_and_in_order(study: Path) -> None:
    results = read_study(study)
    (plain,) = next(iter(results.references["omc-syn"].values()))
    (hidden,) = next(iter(redact_study(results).references["omc-syn"].values()))
    assert hidden.images == tuple("12345678")
    assert hidden.groups == tuple("11223344")
    assert sorted(range(8), key=hidden.images.__getitem__) == sorted(range(8), key=plain.images.__getitem__)
    assert hidden.reduced == plain.reduced


def test_paper_table_is_taken_over_and_its_choice_stays(study: Path) -> None:
    build(study, PaperChoice(columns=("miou",)), plots=())
    build(study, redact=True, plots=())
    assert (study / "report-redacted/tables/custom.csv").is_file()
    assert not (study / "report-redacted/custom.json").exists()


def write_names(study: Path, text: str) -> Path:
    file = study.parent / "names.toml"
    file.write_text(text)
    return file


@pytest.fixture
def chip(tmp_path: Path) -> Path:
    """A study called after its customer's chip, and trained on it; its name begins with the dataset's."""
    folder = fake.write_study(tmp_path / "results/falcon-lab", ["unet", "eal_icnet"], ["falcon"], repeats=2)
    shutil.rmtree(folder / "efficiency")
    return folder


@pytest.mark.usefixtures("blank_plots")
def test_renamed_datasets_and_studies_leave_no_old_name(chip: Path, call: Call) -> None:
    assert call("report", "falcon-lab", "--datasets", "falcon")[0] == 0  # keeps a choice with the old name
    assert call("report", "falcon-lab", "--redact")[0] == 0  # leaves files of the old names
    names = write_names(chip, 'falcon = "chip-a"\n"falcon-lab" = "study-1"\n')
    code, _, err = call("report", "falcon-lab", "--redact", "--rename", names)
    assert code == 0, err
    files = [path for path in (chip / "report-redacted").rglob("*") if path.is_file()]
    assert len(files) > 10
    for path in files:
        assert "falcon" not in str(path.relative_to(chip))
        assert b"falcon" not in path.read_bytes().lower(), path
    page = (chip / "report-redacted/index.html").read_text("utf-8")
    assert "<h1>study-1</h1>" in page
    assert "chip-a" in page
    assert "Some names of datasets and studies are replaced" in page
    assert call("report", "falcon-lab", "--redact", "--rename", names, "--check")[0] == 0


@pytest.mark.usefixtures("blank_plots")
def test_zip_holds_the_whole_report_and_no_folder_is_written(chip: Path, call: Call) -> None:
    names = write_names(chip, 'falcon = "chip-a"\n"falcon-lab" = "study-1"\n')
    code, out, err = call("report", "falcon-lab", "--redact", "--rename", names, "--zip")
    assert code == 0, err
    assert out == "results/falcon-lab/report-redacted.zip\n"
    assert not (chip / "report-redacted").exists()
    with zipfile.ZipFile(chip / "report-redacted.zip") as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    assert {"report-redacted/index.html", "report-redacted/tables/accuracy.csv"} <= set(contents)
    for name, content in contents.items():
        assert "falcon" not in name
        assert b"falcon" not in content.lower(), name
    assert call("report", "falcon-lab", "--redact", "--rename", names)[0] == 0
    for name, content in contents.items():
        assert (chip / name).read_bytes() == content


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        ('falkon = "a"', ("--redact",), "no dataset and no study is called 'falkon'; did you mean 'falcon'"),
        ('falcon = "a/b"', ("--redact",), "falcon = 'a/b'; expected a name of letters"),
        ("falcon = 1", ("--redact",), "falcon = 1; expected a name"),
        ('falcon = "a"\n"falcon-lab" = "A"', ("--redact",), "two names become one"),
        ('falcon = "falcon-lab"', ("--redact",), "'falcon-lab' is the name of another dataset or study"),
        ("falcon", ("--redact",), "names.toml: cannot be read"),
        ('falcon = "a"', (), "--rename: is for reports that leave the house; add --redact"),
        ('falcon = "a"', ("--redact", "--zip", "--check"), "--check with --zip"),
    ],
)
def test_wrong_names_are_refused(chip: Path, call: Call, text: str, arguments: tuple[str, ...], message: str) -> None:
    code, _, err = call("report", "falcon-lab", "--rename", write_names(chip, text), *arguments)
    assert code == 2
    assert message in err
    assert not (chip / "report-redacted").exists()


@pytest.mark.usefixtures("blank_plots")
def test_merged_studies_are_renamed_too(chip: Path, call: Call) -> None:
    other = fake.write_study(chip.parent / "osprey", ["fcn"], ["falcon"], repeats=2)
    shutil.rmtree(other / "efficiency")
    for folder in (chip, other):
        settled(folder)
    names = write_names(chip, 'falcon = "chip-a"\n"falcon-lab" = "study-1"\nosprey = "study-2"\n')
    code, _, err = call("report", "falcon-lab", "osprey", "--redact", "--rename", names)
    assert code == 0, err
    merged = chip.parent / "falcon-lab+osprey/report-redacted"
    for path in (path for path in merged.rglob("*") if path.is_file()):
        assert not re.search(rb"falcon|osprey", path.read_bytes().lower()), path
    assert "Merged from the studies study-1, study-2" in (merged / "index.html").read_text("utf-8")


def test_title_of_studies_of_one_name_holds_no_parent(tmp_path: Path) -> None:
    folders = [tmp_path / f"customer{letter}/falcon-lab" for letter in "AB"]
    for folder, model in zip(folders, ("unet", "fcn"), strict=True):
        shutil.rmtree(settled(fake.write_study(folder, [model], ["falcon"], repeats=2)) / "efficiency")
    merged = tmp_path / "customerA-falcon-lab+customerB-falcon-lab"
    build(merged, merged=folders, redact=True, names={"falcon-lab": "study"}, plots=())
    page = (merged / "report-redacted/index.html").read_text("utf-8")
    assert "<h1>study (1)+study (2)</h1>" in page
    assert "customer" not in page


def test_stand_in_stays_one_and_a_real_dataset_becomes_none(study: Path, chip: Path) -> None:
    renamed = rename_study(read_study(study), {"omc-syn": "chip-a-syn"}, ["quick"])
    assert list(stand_ins(renamed.references)) == ["chip-a-syn is synthetic, drawn in place of chip-a."]
    with pytest.raises(UserError, match=r"omc-syn is synthetic; expected a new name that ends in -syn"):
        rename_study(read_study(study), {"omc-syn": "chip-a"}, ["quick"])
    with pytest.raises(UserError, match=r"falcon is not synthetic; expected a new name that does not end in -syn"):
        rename_study(read_study(chip), {"falcon": "chip-syn"}, ["falcon-lab"])


def test_both_names_of_a_linked_study_are_replaced(chip: Path) -> None:
    link = chip.parent / "osprey"
    link.symlink_to(chip, target_is_directory=True)
    build(link, redact=True, names={"osprey": "study-1", "falcon-lab": "study-2"}, plots=())
    page = (chip / "report-redacted/index.html").read_text("utf-8")
    assert "<h1>study-1</h1>" in page
    assert "osprey" not in page


def test_names_of_settings_origins_and_left_out_files_are_replaced(chip: Path) -> None:
    fake.write_protocol(chip, "input.size_by_dataset.kestrel=64")
    init = Initial(study="osprey", train=("merlin-syn",), repeat=0, sha256="0" * 64)
    fake.change(chip, lambda record: {"init": init})
    results = replace(read_study(chip), strangers=("references/buzzard.v2.otsu.csv (tested on other images)",))
    olds = ("kestrel", "osprey", "merlin", "buzzard.v2")
    renamed = rename_study(results, {old: f"new-{number}" for number, old in enumerate(olds)}, ["falcon-lab"])
    assert renamed.protocol is not None
    assert renamed.protocol.input.size_by_dataset == {"new-0": 64}
    assert {(run.record.init.study, run.record.init.train) for run in renamed.runs if run.record.init} == {
        ("new-1", ("new-2-syn",))
    }
    assert renamed.strangers == ("references/new-3.otsu.csv (tested on other images)",)


@pytest.mark.parametrize(
    "word", ["image", "pooled", "miou", "ok", "running", "cpu", "gpu", "float32", "fps", "ic", "unet", "eal", "otsu"]
)
def test_word_that_a_dataset_is_called_after_stays_where_it_is_no_name(tmp_path: Path, word: str) -> None:
    folder = fake.write_study(tmp_path / "falcon-lab", ["unet", "eal_icnet"], ["falcon"], repeats=2)
    fake.change(folder, lambda record: {"environment": {"cpu": f"{word} {fake.CPU}", "device": "cpu"}})
    waiting = UnfinishedRun(("falcon",), ("falcon",), "unet", 2, "running")
    results = replace(read_study(folder), unfinished=(waiting,))
    renamed = rename_study(results, {"falcon": "chip"}, ["falcon-lab"])
    called = rename_study(results, {"falcon": word}, ["falcon-lab"])
    assert called.runs[0].record.metrics.keys() == {word}
    again = rename_study(called, {word: "chip"}, ["falcon-lab"])
    assert all(getattr(again, field.name) == getattr(renamed, field.name) for field in fields(StudyResults))


def test_only_names_are_replaced_in_what_merging_says(chip: Path) -> None:
    results = replace(
        read_study(chip),
        sources=("seed", "studies (2)"),
        origin=(
            "Merged from the studies seed (seed 1), studies (2) (seed 2); 2 runs that several hold, counted once.",
            "Repeats 0 to 1 are of seed 1, 2 to 3 are of seed 2.",
            "Left out, since their records are broken: merlin+falcon/unet/0 of seed, records/fcn/1 of studies (2).",
        ),
        strangers=("seed/references/references.v2.otsu.csv (tested on other images than the runs)",),
    )
    names = {"seed": "a", "studies": "b", "merlin": "c", "records": "d", "references.v2": "e"}
    renamed = rename_study(results, names, ["seed", "studies"])
    assert renamed.sources == ("a", "b (2)")
    assert renamed.origin == (
        "Merged from the studies a (seed 1), b (2) (seed 2); 2 runs that several hold, counted once.",
        "Repeats 0 to 1 are of seed 1, 2 to 3 are of seed 2.",
        "Left out, since their records are broken: c+falcon/unet/0 of a, d/fcn/1 of b (2).",
    )
    assert renamed.strangers == ("a/references/e.otsu.csv (tested on other images than the runs)",)


@pytest.mark.usefixtures("blank_plots")
def test_name_of_a_broken_run_alone_and_of_a_protocol_are_replaced(chip: Path, call: Call) -> None:
    broken = chip / "runs/kestrel/unet/0/record.json"
    broken.parent.mkdir(parents=True)
    broken.write_text("{")
    file = chip / "protocol.toml"
    file.write_text(file.read_text().replace('name = "quick"', 'name = "merlin"'))
    names = write_names(chip, 'kestrel = "chip-b"\nmerlin = "settings"\nfalcon = "chip-a"\n"falcon-lab" = "study"\n')
    code, _, err = call("report", "falcon-lab", "--redact", "--rename", names)
    assert code == 0, err
    for path in (path for path in (chip / "report-redacted").rglob("*") if path.is_file()):
        assert not re.search(rb"kestrel|merlin|falcon", path.read_bytes().lower()), path
    page = (chip / "report-redacted/index.html").read_text("utf-8")
    assert "chip-b/unet/0" in page
    assert "Protocol: settings." in page


@pytest.mark.parametrize("other", ["Falcon", "FALCON-x", "falcon2", "my-falcon3"])
def test_name_that_would_stay_in_another_spelling_is_refused(chip: Path, other: str) -> None:
    fake.write_run(chip, "unet", [other], 0, fake.counts(0.9, fake.random_of(other)))
    with pytest.raises(UserError, match=rf"^--rename: '{other}' would still tell the name 'falcon'; add a line for"):
        rename_study(read_study(chip), {"falcon": "chip"}, ["falcon-lab"])
    rename_study(read_study(chip), {"falcon": "chip", other: "chip-2"}, ["falcon-lab"])


def test_words_of_programs_are_withheld_from_measurements_and_environments(tmp_path: Path) -> None:
    said = "ValueError: cannot open jane.png"
    warnings = (
        f"no peak memory of the train step: {said}",
        f"no limits of the device: {said}",
        f"fvcore has not checked the MACs: {said}",
        "cut short by the budget of 3 s: no throughput",
        "no peak memory of the train step: it would take about 9.0 GiB, more than half of the free memory",
    )
    folder = fake.write_study(tmp_path / "lab", ["unet"], ["falcon"], repeats=1)
    fake.write_efficiency(folder, "unet", warnings=warnings)
    fake.change(folder, lambda record: {"environment": {"execution_reason": f"not compiled: {said}"}})
    redacted = redact_study(read_study(folder))
    assert redacted.efficiency[0].warnings == (
        "no peak memory of the train step: ValueError, message withheld",
        "no limits of the device: ValueError, message withheld",
        "fvcore has not checked the MACs: ValueError, message withheld",
        *warnings[3:],
    )
    assert redacted.runs[0].record.environment["execution_reason"] == "not compiled: message withheld"


def test_comparisons_name_the_new_study_and_test_and_withhold_the_words_of_programs() -> None:
    scores = {"omc@via": {way: {"image": {"miou": 0.5}} for way in ("plain", "ours")}}
    other = RuntimeTimes(runtime="openvino", version=None, refusal="ValueError: secret layer")
    created = comparison(what="int8", plain=(2.0,), ours=(1.0,), study="lab", scores=scores, others=[other])
    study = StudyResults(None, (), {}, (), comparisons=(created,))
    (renamed,) = rename_study(redact_study(study), {"omc": "a", "lab": "b"}, ["bench"]).comparisons
    assert (renamed.study, [*renamed.scores]) == ("b", ["a@via"])
    assert "secret" not in str(renamed)
