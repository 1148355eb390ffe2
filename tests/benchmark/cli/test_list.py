"""What ``list`` and ``explain`` print."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark import metrics
from benchmark.config.protocol import Protocol, setting_paths
from benchmark.metrics import Metric
from benchmark.records.costs import COSTS
from benchmark.report.tables import paper_table
from benchmark.report.tables.efficiency_table import EFFICIENCY
from tests.benchmark.conftest import Call
from tests.benchmark.data.folder_makers import write_pairs


def test_settings_are_paragraphs_that_fit_a_terminal(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = call("list", "protocols", "-v")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    assert [paragraph.splitlines()[0] for paragraph in out.split("\n\n")] == list(setting_paths(Protocol))
    size = next(paragraph for paragraph in out.split("\n\n") if paragraph.startswith("input.size\n"))
    assert "height and width of a network's input" in size
    assert "paper 512; strict 512; small 160; quick 64; standins 256; open 192" in size


def test_presets_stand_beside_each_other_in_a_terminal(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = call("list", "protocols")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines()}
    assert rows["setting"] == ["paper", "strict", "small", "quick", "open"]
    assert "name" not in rows
    assert rows["split.near_duplicates"] == ["apart", "together", "together", "together", "apart"]
    assert rows["input.size_by_dataset"] == ["hy5syn:", "hy5syn:", "none", "none", "none"]
    assert rows["evaluation.window"] == ["input", "input", "input", "input", "block"]


def test_datasets_show_own_data_and_what_is_there(call: Call) -> None:
    write_pairs(Path("chips/mychip"), 3)
    write_pairs(Path("chips/omc-syn"), 2)
    Path("chips/empty").mkdir()
    Path("chips/faulty.toml").write_text("targt = 1\n")
    Path("chips/absent.toml").write_text('display = "My chip"\n')
    code, out, err = call("list", "datasets", "--data-root", "chips")
    assert code == 0, err
    lines = {line.split()[0]: " ".join(line.split()) for line in out.splitlines()}
    assert lines["omc"] == "omc OMC track none; omc-syn stands in"
    assert lines["miic-syn"] == "miic-syn MIIC stand-in track drawn"
    assert lines["omc-syn"].endswith("2 with labels in chips/omc-syn")
    assert lines["mychip"] == "mychip mychip track 3 with labels in chips/mychip"
    assert "chips/empty/image: no such folder" in lines["empty"]
    assert "targt" in lines["faulty"]
    assert lines["absent"] == "absent My chip track no folder chips/absent"
    assert call("list", "datasets", "--data-root", "nowhere")[0] == 2


def test_datasets_and_networks_are_described_in_paragraphs_that_fit_a_terminal(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    Path("data").mkdir()
    for topic, words in {
        "datasets": ("t84c_poly\n  T84C00 poly; foreground: poly; images: no folder data/t84c_poly", "cite: Santee"),
        "models": ("eal_icnet\n  802,698 params; 7.68 GMAC at 512×512, 59.71 GMAC at 1024×1024", "groups: all, "),
    }.items():
        code, out, err = call("list", topic, "-v")
        assert code == 0, err
        assert all(word in out for word in words)
        assert [line for line in out.splitlines() if len(line) > 80 and len(line.split()) > 1] == []


def test_every_metric_and_cost_is_listed_and_explained(call: Call) -> None:
    listed = [line.split()[0] for line in call("list", "metrics")[1].splitlines()]
    assert listed == ["name", *metrics.METRICS, *COSTS]
    assert COSTS.keys() == paper_table.COSTS.keys() == {column.key for column in EFFICIENCY}
    for cost in COSTS.values():
        code, out, _ = call("explain", cost.name)
        assert code == 0
        assert out.startswith(f"{cost.display} ({cost.name}): ")
        assert cost.definition in " ".join(out.split())
        assert "Measured:" in out


def test_definitions_are_paragraphs_that_fit_a_terminal(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = call("list", "metrics", "-v")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    paragraphs = dict(paragraph.split(":", 1) for paragraph in out.split("\n\n"))
    for entry in (*metrics.METRICS.values(), *COSTS.values()):
        assert entry.definition in " ".join(paragraphs[entry.name].split())


def test_names_that_tables_print_are_explained_within_the_terminal(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for entry in (*metrics.METRICS.values(), *COSTS.values()):
        code, out, err = call("explain", entry.display)
        assert code == 0, err
        assert f"{entry.display} ({entry.name}): " in out
        if isinstance(entry, Metric):
            text = " ".join(out.split())
            assert " ".join(entry.formula.split()) in text
            assert metrics.NOTHING_TO_JUDGE in text
            assert "Reduction:" in text
        assert max(map(len, out.splitlines())) <= 80, entry.name
    assert call("explain", "MIOU")[1] == call("explain", "miou")[1]


@pytest.mark.parametrize(
    ("topic", "names"),
    [
        ("latency", ("latency_p50_ms", "latency_p90_ms", "latency_p99_ms", "fps")),
        ("memory", ("forward_peak_bytes", "train_step_peak_bytes")),
        ("energy", ("energy_j_per_image", "energy_j_per_image_batch")),
    ],
)
def test_a_topic_explains_its_costs_together(call: Call, topic: str, names: tuple[str, ...]) -> None:
    code, out, _ = call("explain", topic)
    assert code == 0
    assert all(f"({name})" in out for name in names)


def test_unknown_names_are_refused_with_the_nearest(call: Call) -> None:
    code, _, err = call("explain", "latenc")
    assert code == 2
    assert "no metric or cost 'latenc'; did you mean 'latency'?" in err


def test_networks_of_smp_are_listed_by_pattern(call: Call) -> None:
    code, out, err = call("list", "models", "smp/linknet/tu-test_resnet,smp/fpn/tu-test_vit,unet", "-v")
    assert code == 0, err
    paragraphs = dict(paragraph.split("\n", 1) for paragraph in out.split("\n\n") if "\n" in paragraph)
    assert paragraphs["smp-linknet-tu-test_resnet"].split()[0] == "444,453"
    assert "unet" in paragraphs
    assert "smp/fpn/tu-test_vit: smp cannot build fpn on tu-test_vit" in " ".join(out.split())


def test_hundreds_of_networks_of_smp_are_names_alone(call: Call) -> None:
    lines = call("list", "models", "smp/fpn/*")[1].splitlines()
    assert len(lines) > 1000
    assert {"smp/fpn/resnet34", "smp/fpn/tu-convnext_tiny"} < set(lines)


def test_only_models_are_listed_by_pattern(call: Call) -> None:
    code, _, err = call("list", "datasets", "omc")
    assert code == 2
    assert "list datasets 'omc': only models are chosen by names; leave 'omc' out" in err
