from __future__ import annotations

import statistics
from pathlib import Path

import numpy as np
import pytest

from benchmark.records.run_record import Failure
from benchmark.report.read import read_study
from benchmark.report.tables import accuracy_table, significance_table
from benchmark.report.tables.render import Block, Row, to_markdown
from benchmark.utils.errors import UserError
from tests.benchmark.report import fake


def only(folder: Path) -> Block:
    (block,) = accuracy_table.scores(read_study(folder), accuracy_table.ACCURACY).blocks
    return block


def row(block: Block, key: str) -> Row:
    (result,) = [row for row in block.rows if row.key == key]
    return result


def image(tp: int, fp: int, fn: int, tn: int) -> dict[str, int]:
    return {"ignored": 0, "tp": tp, "fp": fp, "fn": fn, "tn": tn,
            "aji_num": tp, "aji_den": tp + fp + fn, "ajip_num": tp, "ajip_den": tp + fp + fn}  # fmt: skip


def test_figures_are_mean_and_deviation_of_the_image_reduction_over_repeats(tmp_path: Path) -> None:
    fake.write_protocol(tmp_path)
    # Foreground IoU of the two images of each repeat: (1/2, 1), (1/4, 3/4), (1/2, 1/2) -> 0.75, 0.5, 0.5.
    repeats = [
        [image(10, 10, 0, 80), image(50, 0, 0, 50)],
        [image(10, 30, 0, 60), image(30, 0, 10, 60)],
        [image(10, 5, 5, 80), image(20, 20, 0, 60)],
    ]
    for repeat, rows in enumerate(repeats):
        fake.write_run(tmp_path, "unet", ["omc"], repeat, rows)

    block = only(tmp_path)
    cell = row(block, "unet").cells["fg_iou"]

    assert cell.mean == pytest.approx(1.75 / 3)
    assert cell.std == pytest.approx(statistics.stdev([0.75, 0.5, 0.5]))
    assert (cell.n, block.n, block.facts["reduction"]) == (3, 3, "image")
    # Background IoU: (80/90, 1), (60/90, 60/70), (80/90, 60/80).
    background = [(80 / 90 + 1) / 2, (60 / 90 + 60 / 70) / 2, (80 / 90 + 60 / 80) / 2]
    expected = statistics.fmean((one + two) / 2 for one, two in zip(background, [0.75, 0.5, 0.5], strict=True))
    assert row(block, "unet").cells["miou"].mean == pytest.approx(expected)


def test_protocol_chooses_the_reduction_and_the_header_names_it(tmp_path: Path) -> None:
    fake.write_protocol(tmp_path, "report.reduction=pooled")
    fake.write_run(tmp_path, "unet", ["omc"], 0, [image(10, 10, 0, 80), image(50, 0, 0, 50)])

    block = only(tmp_path)

    assert row(block, "unet").cells["fg_iou"].mean == pytest.approx(60 / 70)
    assert any("pooled" in sentence for sentence in block.conventions)


def test_rows_follow_the_registry_and_references_come_last(study: Path) -> None:
    omc, miic = accuracy_table.scores(read_study(study), accuracy_table.ACCURACY).blocks

    assert (omc.key, miic.key) == ("omc-syn", "miic-syn")
    names = [row.key for row in omc.rows]
    assert names[:2] == ["eal_icnet", "irdpnet"]
    assert names[-2:] == ["otsu", "background"]
    assert len(names) == 13
    assert row(omc, "background").cells["dice"].mean == 0


def test_failed_repeat_shows_in_the_cell_and_below_the_table(study: Path) -> None:
    omc, _ = accuracy_table.scores(read_study(study), accuracy_table.ACCURACY).blocks

    assert row(omc, "unet").cells["miou"].n == 2
    text = to_markdown(accuracy_table.scores(read_study(study), accuracy_table.ACCURACY))
    assert "- UNet: repeat 1 failed (nan\\_loss): the training loss became NaN in step 37" in text
    assert "- HRNet-W48: repeats 0, 1, 2 failed (out\\_of\\_memory): needs 12 GiB, has 8 GiB" in text
    assert "| HRNet-W48 | – | – | – | – | – | – |" in text


def test_study_in_which_all_failed_is_a_table_of_reasons(tmp_path: Path) -> None:
    fake.write_protocol(tmp_path)
    for name in ("unet", "fcn"):
        fake.write_run(tmp_path, name, ["omc"], 0, None, Failure(kind="error", message="RuntimeError: no"))

    block = only(tmp_path)

    assert [row.cells for row in block.rows] == [{}, {}]
    assert block.conventions[0] == "No run has finished."
    assert row(block, "fcn").remark == "repeat 0 failed (error): RuntimeError: no"


def test_interrupted_runs_and_runs_without_test_images_say_so(tmp_path: Path) -> None:
    fake.write_protocol(tmp_path)
    fake.write_run(tmp_path, "unet", ["omc"], 0, None, status="interrupted")
    fake.write_run(tmp_path, "unet", ["omc"], 1, None)

    assert row(only(tmp_path), "unet").remark == "repeat 0 interrupted; repeat 1 had no test images of omc"


def test_images_are_counted_per_dataset_and_their_absence_is_not_a_failure(tmp_path: Path) -> None:
    fake.write_protocol(tmp_path)
    run = fake.write_run(tmp_path, "unet", ["omc"], 0, [image(10, 10, 0, 80)] * 3, test=["omc", "miic"])
    fake.write_counts(run / "images.miic.csv", [image(10, 10, 0, 80)] * 5)
    fake.write_run(tmp_path, "unet", ["omv"], 0, None)
    said = {
        block.key: block.conventions
        for block in accuracy_table.scores(read_study(tmp_path), accuracy_table.ACCURACY).blocks
    }
    assert "Test images: 3." in said["omc"]
    assert "Test images: 5." in said["omc-on-miic"]
    assert said["omv"][0] == "No test images to judge: trained, not tested."
    assert "Test images: 0." in said["omv"]


VOID = {"ignored": 100} | dict.fromkeys(("tp", "fp", "fn", "tn", "aji_num", "aji_den", "ajip_num", "ajip_den"), 0)


def test_images_without_a_counted_pixel_are_no_part_of_means_and_numbers(tmp_path: Path) -> None:
    fake.write_protocol(tmp_path)
    for repeat in range(2):
        fake.write_run(tmp_path, "unet", ["omc"], repeat, [image(10, 10, 0, 80), *[VOID] * 6, image(0, 0, 0, 100)])
    block = only(tmp_path)
    assert row(block, "unet").cells["dice"].mean == pytest.approx((2 / 3 + 1) / 2)
    assert block.facts["test_images"] == "2"
    said = (
        "Without a counted pixel, and so without any value: 6 more test images (their ratios are blank in "
        "images.omc.csv)."
    )
    assert "Test images: 2." in block.conventions
    assert said in block.conventions
    assert "Unlabelled, and so not counted: 75.0 % of the pixels of the test images." in block.conventions
    for written in significance_table.written(read_study(tmp_path), [block], reference="unet"):
        assert all(line["test_images"] == "2" for line in written.lines)


def test_test_of_ignored_images_alone_has_no_value(tmp_path: Path) -> None:
    fake.write_protocol(tmp_path)
    fake.write_run(tmp_path, "unet", ["omc"], 0, [VOID] * 3)
    block = only(tmp_path)
    assert not row(block, "unet").cells
    assert not row(block, "unet").remark
    assert block.conventions[0] == "No test images to judge: trained, not tested."
    assert any("without any value: 3 more test images" in said for said in block.conventions)


def test_repeats_with_equal_counts_in_every_image_are_named_below_the_table(tmp_path: Path) -> None:
    fake.write_protocol(tmp_path)
    rows = [image(10, 10, 0, 80), image(50, 0, 0, 50)]
    for model, third in (("unet", rows), ("fcn", rows[::-1])):
        for repeat, counts in enumerate((rows, [image(9, 11, 1, 79), *rows[1:]], third)):
            fake.write_run(tmp_path, model, ["omc"], repeat, counts)
    block = only(tmp_path)
    assert row(block, "unet").remark == (
        "repeats 0, 2 have equal counts in every image, and so a std of 0 between them: copies of one run, or networks "
        "that predict nothing"
    )
    assert row(block, "fcn").remark == ""


def test_one_repeat_has_no_deviation(tmp_path: Path) -> None:
    fake.write_study(tmp_path, ["unet"], ["omc-syn"], repeats=1)

    block = only(tmp_path)

    assert row(block, "unet").cells["miou"].std is None
    assert block.conventions[0] == "n = 1 repeat, so no std."
    assert "±" not in to_markdown(accuracy_table.scores(read_study(tmp_path), accuracy_table.ACCURACY))


def test_model_that_the_registry_does_not_know_keeps_its_name_in_a_family_of_its_own(tmp_path: Path) -> None:
    fake.write_study(tmp_path, ["my_net", "unet"], ["omc-syn"], repeats=1)

    block = only(tmp_path)

    assert [row.key for row in block.rows] == ["unet", "my_net", "otsu", "background"]
    assert (row(block, "my_net").label, row(block, "my_net").family) == ("my_net", "user")


def test_real_and_stand_in_data_and_foreign_training_have_columns_of_their_own(tmp_path: Path) -> None:
    fake.write_protocol(tmp_path)
    rows = [image(10, 10, 0, 80)]
    fake.write_run(tmp_path, "unet", ["omc"], 0, rows)
    fake.write_run(tmp_path, "unet", ["omc-syn"], 0, rows)
    fake.write_run(tmp_path, "unet", ["omc", "miic"], 0, rows, test=["omc", "miic"])

    blocks = accuracy_table.scores(read_study(tmp_path), accuracy_table.ACCURACY).blocks

    assert [block.key for block in blocks] == ["omc", "omc-syn", "omc+miic-on-omc", "omc+miic-on-miic"]
    assert any("stand-in for omc" in sentence for sentence in blocks[1].conventions)
    assert not any("stand-in" in sentence for sentence in blocks[0].conventions)


def test_stale_runs_are_not_read(tmp_path: Path) -> None:
    fake.write_study(tmp_path, ["unet"], ["omc-syn"], repeats=1)
    stale = tmp_path / "runs" / ".stale" / "omc-syn.unet.0.0"
    stale.parent.mkdir()
    (tmp_path / "runs" / "omc-syn" / "unet" / "0").rename(stale)

    assert read_study(tmp_path).runs == ()


def test_missing_count_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    fake.write_study(tmp_path, ["unet"], ["omc-syn"], repeats=1)
    file = tmp_path / "runs/omc-syn/unet/0/images.omc-syn.csv"
    file.unlink()

    with pytest.raises(UserError, match=r"images\.omc-syn\.csv: cannot be read"):
        read_study(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"), [("image,tp\na,0.5\n", "tp"), ("image,tp\n", "no counts"), ("", "cannot be read")]
)
def test_broken_count_file_is_an_error_that_says_what_was_found(tmp_path: Path, content: str, message: str) -> None:
    fake.write_study(tmp_path, ["unet"], ["omc-syn"], repeats=1)
    (tmp_path / "runs/omc-syn/unet/0/images.omc-syn.csv").write_text(content)

    with pytest.raises(UserError, match=message):
        read_study(tmp_path)


def test_blank_electrical_columns_are_left_out(tmp_path: Path) -> None:
    fake.write_protocol(tmp_path)
    run = fake.write_run(tmp_path, "unet", ["omv"], 0, [image(10, 10, 0, 80)])
    (run / "images.omv.csv").write_text("image,group,tp,fp,fn,tn,opens\na,g,10,10,0,80,\n")

    assert row(only(tmp_path), "unet").cells["fg_iou"].mean == pytest.approx(0.5)


def test_electrical_errors_are_summed_over_images_whatever_the_protocols_reduction(tmp_path: Path) -> None:
    fake.write_protocol(tmp_path)
    repeats = [fake.counts(0.9, np.random.default_rng(seed), images=5) for seed in range(2)]
    for repeat, rows in enumerate(repeats):
        fake.write_run(tmp_path, "unet", ["omc"], repeat, rows)
    (block,) = accuracy_table.scores(read_study(tmp_path), accuracy_table.ELECTRICAL).blocks
    names = ["opens", "shorts", "missed", "false", "net_error_rate", "net_f1"]
    assert (block.facts["reduction"], [column.key for column in block.columns]) == ("pooled", names)
    cells = block.rows[0].cells
    opens = [sum(image["opens"] for image in rows) for rows in repeats]
    assert cells["opens"].mean == statistics.fmean(opens)
    assert cells["opens"].std == pytest.approx(statistics.stdev(opens))
    wrong = [1 - sum(image["correct"] for image in rows) / 45 for rows in repeats]
    assert cells["net_error_rate"].mean == pytest.approx(statistics.fmean(wrong))
    assert "Interior nets in all test images: 45." in block.conventions


def test_via_targets_have_via_figures_and_no_nets(tmp_path: Path) -> None:
    fake.write_protocol(tmp_path)
    vias = {"via_true": 10, "via_predicted": 8, "via_matched": 6}
    fake.write_run(tmp_path, "unet", ["omv"], 0, [image(10, 10, 0, 80) | vias] * 2)
    (block,) = accuracy_table.scores(read_study(tmp_path), accuracy_table.ELECTRICAL).blocks
    names = ["via_precision", "via_recall", "via_f1", "via_missed", "via_false"]
    assert [column.key for column in block.columns] == names
    assert block.rows[0].cells["via_recall"].mean == pytest.approx(12 / 20)
    assert "True vias in all test images: 20." in block.conventions


def test_counts_without_nets_or_vias_make_no_electrical_table(tmp_path: Path) -> None:
    fake.write_protocol(tmp_path)
    fake.write_run(tmp_path, "unet", ["omc"], 0, [image(10, 10, 0, 80)])
    assert accuracy_table.scores(read_study(tmp_path), accuracy_table.ELECTRICAL).blocks == ()
