"""Forwards beside other runtimes: record, table, plot, and the verbs that measure them."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest
import torch

from benchmark.cli import bench
from benchmark.predict import runtimes
from benchmark.predict.runtimes import RUNTIMES, Deployment
from benchmark.records.speedup_record import RuntimeTimes, SpeedupComparison
from benchmark.report.plots import runtimes_plot
from benchmark.report.read import StudyResults
from benchmark.report.tables import render, runtimes_table, speedup_table
from benchmark.speedup import compare, runtime_forwards
from tests.benchmark.conftest import TINY, Call
from tests.benchmark.speedup.test_compare import SETTING, TINYNET, comparison


def compared(model: str, ours: float, **others: float) -> SpeedupComparison:
    facts = {"what": "runtimes", "model": model, "plain": (8.0,) * 3, "ours": (ours,) * 3}
    times = [
        RuntimeTimes(runtime=name, version="1.0", raw_ms=(ms,) * 3, max_difference=1e-6)  # type: ignore[arg-type]
        for name, ms in others.items()
    ]
    return comparison(**facts, others=times, max_difference=2e-6, max_logit=4.0)


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.compile would take seconds, and fails here as it does without a compiler."""

    def fail(deployment: Deployment) -> torch.nn.Module:
        raise RuntimeError("no compiler")

    changed = {**RUNTIMES, "compile": runtimes.Runtime("torch.compile", ("torch",), fail)}
    monkeypatch.setattr(runtimes, "RUNTIMES", changed)
    monkeypatch.setattr(bench, "TIMINGS", 2)
    monkeypatch.setattr(bench, "SECONDS", 0.0)


@pytest.mark.usefixtures("no_compiler")
def test_all_runtimes_are_timed_and_their_logits_compared() -> None:
    pytest.importorskip("onnxruntime", reason="needs the extra: pip install -e '.[runtimes]'")
    result = runtime_forwards.beside_runtimes(TINYNET, 64, SETTING)
    others = {other.runtime: other for other in result.others}
    assert others.keys() == {"compile", "onnxruntime", "openvino"}
    assert others["compile"].refusal == "RuntimeError: no compiler"
    assert len(others["onnxruntime"].raw_ms) == len(result.ours) == len(result.plain) >= 2
    assert result.max_logit is not None
    for other in others.values():
        if other.raw_ms:
            assert other.max_difference is not None
            assert other.max_difference <= 1e-4 * max(result.max_logit, 1)
    assert SpeedupComparison.from_json(result.to_json()) == result


def test_table_tells_the_fastest_other_runtime_and_the_geometric_mean() -> None:
    created = (compared("unet", 4.0, onnxruntime=5.0, openvino=2.0), compared("fcn", 4.0, onnxruntime=8.0))
    refused = RuntimeTimes(runtime="openvino", version=None, refusal="openvino is not installed")
    created = (created[0], created[1].model_copy(update={"others": (*created[1].others, refused)}))
    study = StudyResults(None, (), {}, (), comparisons=created)
    assert speedup_table.table(study).blocks == ()
    tables = runtimes_table.table(study).blocks
    rows = {row.key: row for block in tables for row in block.rows}
    assert (rows["unet"].cells["fastest"].text, rows["unet"].cells["ratio"].mean) == ("OpenVINO", 2.0)
    assert (rows["fcn"].cells["fastest"].text, rows["fcn"].cells["ratio"].mean) == ("onnxruntime", 0.5)
    assert rows["unet"].cells["gain"].mean == 2.0
    assert rows["unet"].cells["difference"].mean == pytest.approx(2e-6 / 4)
    assert rows["fcn"].remark == "OpenVINO: openvino is not installed"


def test_columns_name_runtime_precision_folding_batch_size_and_threads() -> None:
    created = tuple(compared(name, 4.0, onnxruntime=ms) for name, ms in (("unet", 2.0), ("fcn", 8.0)))
    study = StudyResults(None, (), {}, (), comparisons=created)
    (block,) = runtimes_table.table(study).blocks
    mean = statistics.geometric_mean((2.0, 0.5))
    assert any(f"geometric mean over 2 networks: {mean:.2f}" in line for line in block.conventions)
    text = render.to_markdown(runtimes_table.table(study))
    assert "float32, norms folded, batch 1, 64×64, 1 thread: onnxruntime 1.0 (ms)" in text
    assert "float32, norms as written, batch 1, 64×64, 1 thread: torch as written" in text
    ((stem, figure),) = runtimes_plot.draw(study)
    assert stem == "runtimes.64x64.float32"
    (legend,) = figure.legends
    assert "onnxruntime 1.0, float32, norms folded, batch 1, 64×64, 1 thread" in [
        text.get_text() for text in legend.get_texts()
    ]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["FCN", "UNet"]


@pytest.mark.usefixtures("no_compiler", "blank_plots")
def test_bench_measures_runtimes_alone(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "METHOD", "contextnet")  # EAL-ICNet takes longer
    monkeypatch.setattr(compare, "cpu_has_bfloat16", lambda: False)
    flags = ("--only", "runtimes", "--sizes", "32", "--device", "cpu", "--threads", "1")
    code, out, err = call("bench", "--models", f"{TINY}:TinyNet", *flags)
    assert (code, err) == (0, "")
    assert {path.name for path in Path("results/bench/bench").iterdir()} == {
        f"runtimes.{name}.32x32.cpu.float32.json" for name in ("contextnet", "tinynet")
    }
    assert "torch.compile: RuntimeError: no compiler" in out
    # A busy machine hinders both rows, and a plot shows neither.
    assert "contextnet" in Path("results/bench/report/tables/runtimes.csv").read_text("utf-8")


@pytest.mark.slow  # compiles
@pytest.mark.usefixtures("no_compiler")
def test_profile_measures_runtimes_of_an_own_network_and_its_weights(call: Call, tmp_path: Path) -> None:
    torch.save(TINYNET.build(in_channels=3).state_dict(), tmp_path / "lab.pth")
    flags = ("--sizes", "32", "--device", "cpu", "--threads", "1", "--weights", "lab.pth")
    code, out, err = call("profile", "--models", f"{TINY}:TinyNet", "--runtimes", *flags)
    assert (code, err) == (0, "")
    assert "tinynet 32 on cpu: runtimes" in out
    assert "Fastest other" in out
    assert [path.name for path in Path("results/profile/bench").iterdir()] == [
        "runtimes.tinynet.32x32.cpu.float32.json"
    ]
    code, _, err = call("profile", "--models", f"{TINY}:TinyNet", "--runtimes", "--budget", "1")
    assert code == 2
    assert "--budget: not with --runtimes" in err
