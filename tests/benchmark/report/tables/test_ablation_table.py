from __future__ import annotations

import statistics
from pathlib import Path

import pytest

from benchmark.report.read import read_study
from benchmark.report.tables.ablation_table import ablation
from benchmark.report.tables.render import Block, Row, Table, to_latex, to_markdown
from tests.benchmark.report import fake

MODELS = ["eal_icnet", "eal_icnet.no_tssa", "eal_icnet.no_pam", "unet"]


def counts(fp: int) -> list[dict[str, int]]:
    area = {"ignored": 0, "tp": 100, "fp": fp, "fn": 0, "tn": 1000 - fp}
    return [area | {"aji_num": 100, "aji_den": 100 + fp, "ajip_num": 100, "ajip_den": 100 + fp}]


def miou(fp: int) -> float:
    return (100 / (100 + fp) + (1000 - fp) / 1000) / 2


def row(block: Block, key: str) -> Row:
    (result,) = [row for row in block.rows if row.key == key]
    return result


def test_variant_stands_below_its_parent_with_the_difference_over_common_repeats(tmp_path: Path) -> None:
    fake.write_protocol(tmp_path)
    for repeat, fp in ((0, 10), (1, 20), (2, 30)):
        fake.write_run(tmp_path, "eal_icnet", ["omc"], repeat, counts(fp))
    for repeat, fp in ((0, 15), (2, 40), (3, 90)):
        fake.write_run(tmp_path, "eal_icnet.no_tssa", ["omc"], repeat, counts(fp))
    fake.write_run(tmp_path, "unet", ["omc"], 0, counts(1))

    (block,) = ablation(read_study(tmp_path)).blocks

    assert [row.key for row in block.rows] == ["eal_icnet", "eal_icnet.no_tssa"]
    assert "miou_difference" not in row(block, "eal_icnet").cells
    cell = row(block, "eal_icnet.no_tssa").cells["miou_difference"]
    differences = [miou(15) - miou(10), miou(40) - miou(30)]
    assert cell.mean == pytest.approx(statistics.fmean(differences))
    assert cell.std == pytest.approx(statistics.stdev(differences))
    assert cell.n == 2
    printed = f"−{abs(100 * cell.mean):.2f} ± {100 * statistics.stdev(differences):.2f} [n=2]"
    assert printed in to_markdown(Table("ablation", "Ablation", (block,)))
    assert r"\ensuremath{-}" in to_latex(Table("ablation", "Ablation", (block,)))
    assert "What the variants of EAL-ICNet change: models/eal_icnet.py." in block.conventions
    assert not any("signific" in sentence for sentence in block.conventions)


def test_gain_has_a_plus_sign(tmp_path: Path) -> None:
    fake.write_protocol(tmp_path)
    fake.write_run(tmp_path, "eal_icnet", ["omc"], 0, counts(20))
    fake.write_run(tmp_path, "eal_icnet.no_pam", ["omc"], 0, counts(10))

    assert f"+{100 * (miou(10) - miou(20)):.2f}" in to_markdown(ablation(read_study(tmp_path)))


def test_each_dataset_with_a_variant_has_a_block_and_costs_are_those_of_its_size(tmp_path: Path) -> None:
    fake.write_study(tmp_path, MODELS, ["omc-syn", "miic-syn"], repeats=2)

    blocks = ablation(read_study(tmp_path)).blocks

    assert [block.key for block in blocks] == ["omc-syn", "miic-syn"]
    names = [
        "miou.image", "miou_difference", "mpa.image", "dice.image", "aji.image", "net_error_rate", "params", "macs",
    ]  # fmt: skip
    assert [column.key for column in blocks[0].columns] == names
    assert row(blocks[0], "eal_icnet.no_pam").cells["params"].mean == 782_057


@pytest.mark.parametrize("models", [["eal_icnet", "unet"], ["eal_icnet.no_pam", "unet"]])
def test_without_both_parent_and_variant_there_is_no_ablation(tmp_path: Path, models: list[str]) -> None:
    fake.write_study(tmp_path, models, ["omc-syn"], repeats=1)

    assert ablation(read_study(tmp_path)).blocks == ()
