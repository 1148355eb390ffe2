"""The harness against the plain way: same results, honest ratios, and the verb from end to end."""

from __future__ import annotations

import copy
import csv
import io
import itertools
import json
import multiprocessing
import platform
import re
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, cast, get_args

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmark.cli import bench
from benchmark.config import registry
from benchmark.config.execution import Execution
from benchmark.config.protocol import Protocol, load_protocol
from benchmark.config.registry import ModelEntry
from benchmark.data.batches import TrainingBatches
from benchmark.data.packs import Pack
from benchmark.data.splits import Tile
from benchmark.devices.precision import to_device
from benchmark.records import provenance
from benchmark.records.efficiency_record import EfficiencySettings
from benchmark.records.speedup_record import ComparedWork, SpeedupComparison
from benchmark.records.store import Store
from benchmark.report import build as report
from benchmark.report.plots import speedup_plot
from benchmark.report.read import StudyResults
from benchmark.report.tables import int8_table, render, runtimes_table, speedup_table
from benchmark.speedup import feeding, forwards, loop_share, plain, sharing, steps
from benchmark.speedup.networks import GAMMA, TEMPERATURE, build
from benchmark.speedup.setting import SpeedupSetting
from benchmark.training.loop import train
from models.attention import PositionAttention, TokenStatisticsAttention
from tests.benchmark.conftest import TINY, Call
from tests.benchmark.fake_gpu import FakeGPU, OnTheCPU, fake_gpu
from tests.benchmark.fake_graphs import Tape, tapes

__all__ = ["fake_gpu", "tapes"]

SETTING = SpeedupSetting("cpu", 1, EfficiencySettings(warm_up=1, min_iterations=2, min_seconds=0), 2)
PAPER = load_protocol("paper", ["input.size=64"])
EAL, TINYNET = registry.models()["eal_icnet"], *registry.select(f"{TINY}:TinyNet")


@pytest.fixture(scope="module")
def pack() -> Pack:
    """Ten noisy images of bars, whose masks are the bars."""
    rng = np.random.default_rng(0)
    masks = np.zeros((10, 64, 64), np.uint8)
    for index, mask in enumerate(masks):
        mask[:, 4 * index : 4 * index + 20] = 1
    images = (masks * 120 + rng.integers(0, 100, masks.shape)).astype(np.uint8)[..., None]
    tiles = tuple(Tile(f"{index}", f"{index}", None) for index in range(10))
    return Pack("bars", "", images, masks[..., None], tiles)


@pytest.fixture(scope="module")
def eal() -> nn.Module:
    """EAL-ICNet as it is measured, for tests that copy it."""
    return build(EAL)


def comparison(**facts: object) -> SpeedupComparison:
    usual = {"what": "forward", "model": "unet", "size": 64, "unit": "ms", "plain_form": "slow", "our_form": "fast"}
    return SETTING.comparison(**usual | facts)


def test_no_branch_of_a_measured_network_is_the_identity_and_its_norms_have_seen_images(eal: nn.Module) -> None:
    layers = list(eal.modules())
    assert [float(layer.gamma.detach()) for layer in layers if isinstance(layer, PositionAttention)] == [
        pytest.approx(GAMMA)
    ]
    temperatures = [layer.temperature for layer in layers if isinstance(layer, TokenStatisticsAttention)]
    assert all(bool((temperature == TEMPERATURE).all()) for temperature in temperatures)
    assert all(layer.running_mean.abs().max() > 0 for layer in layers if isinstance(layer, torch.nn.BatchNorm2d))
    for mine, theirs in zip(eal.parameters(), build(EAL).parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_training_curves_of_the_plain_way_and_the_harness_agree(pack: Pack, eal: nn.Module) -> None:
    """The same weights, images and order: losses differ by rounding, and by what ten steps make of it."""
    batches = TrainingBatches([(pack, range(10))], 64, PAPER, 0, torch.device("cpu"))
    fed = [(batch.images.contiguous(), batch.masks) for batch in batches.epoch(0)]
    slow: list[float] = []
    plain.train(plain.plain_form(copy.deepcopy(eal)).train(), fed, PAPER, slow.append)
    changed = {"training": PAPER.training.model_copy(update={"epochs": 1, "validate_every": 1, "steps": 10})}
    fast = train(
        to_device(copy.deepcopy(eal).train(), torch.device("cpu")),
        batches,
        lambda: [],
        PAPER.model_copy(update=changed),
        lambda done, total: None,
    )
    assert len(slow) == 10
    assert slow[-1] < slow[0]
    result = [row.train_loss for row in fast.history]
    np.testing.assert_allclose(result[:4], slow[:4], rtol=5e-5)
    np.testing.assert_allclose(result, slow, rtol=2e-2)  # Adam divides by small gradients, so rounding grows


def test_both_ways_feed_the_same_pixels(pack: Pack, tmp_path: Path) -> None:
    pictures = feeding.write(pack, 10, tmp_path)
    files = plain.PlainImages(pictures.files)

    def by_content(pairs: list[tuple[Tensor, Tensor]]) -> list[bytes]:
        return sorted(image.numpy().tobytes() + mask.numpy().tobytes() for image, mask in pairs)

    ours = TrainingBatches(pictures.parts, 64, PAPER, 0, torch.device("cpu"))
    gathered = [(batch.images[0], batch.masks[0]) for batch in ours.epoch(0)]
    assert by_content([files[index] for index in range(10)]) == by_content(gathered)
    result = feeding.feeding(pictures, PAPER, SETTING)
    assert (len(result.plain), len(result.ours), result.unit) == (2, 2, "images/s")
    assert min(*result.plain, *result.ours) > 0


def test_forwards_agree_and_both_are_timed(eal: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    networks = {EAL.name: eal, TINYNET.name: build(TINYNET)}
    monkeypatch.setattr(forwards, "build", lambda entry: copy.deepcopy(networks[entry.name]))
    result = forwards.forward(EAL, 64, SETTING)
    assert result.max_difference is not None
    assert result.max_logit is not None
    assert result.max_difference < 1e-5
    assert result.max_logit > 1e-2
    assert len(result.plain) == len(result.ours) >= 2
    images = [torch.rand(1, 1, 64, 64)] * 2
    # Times are of the first network, masks of the second, whose weights may be trained.
    half = forwards.half_forward(TINYNET, 64, SETTING, copy.deepcopy(eal).eval(), images)
    assert (half.dtype, half.pixels) == ("bfloat16", 2 * 64 * 64)
    assert half.differing_pixels is not None
    assert half.differing_pixels < 0.05 * 2 * 64 * 64


def test_masks_of_trained_weights_are_made_on_the_device_of_the_record(fake_gpu: FakeGPU) -> None:
    class Picture:
        shape = (1, 1, 32, 32)
        sent: ClassVar[list[torch.device]] = []

        def to(self, device: torch.device) -> Tensor:
            self.sent.append(device)
            return torch.rand(self.shape)

    class Trained(nn.Conv2d):
        def to(self, *arguments: Any, **named: Any) -> Any:
            Picture.sent += [argument for argument in arguments if isinstance(argument, torch.device)]
            return super().to(*arguments, **named)

    setting, images = replace(SETTING, name="cuda:1"), cast("list[Tensor]", [Picture()])
    with OnTheCPU():
        result = forwards.half_forward(TINYNET, 64, setting, Trained(1, 1, 1), images)
    assert Picture.sent[:1] + Picture.sent[-1:] == [torch.device("cuda:1")] * 2
    assert (result.device, result.device_name, result.pixels) == ("cuda", fake_gpu.properties.name, 32 * 32)


def test_steps_are_timed_without_a_round_after_each(monkeypatch: pytest.MonkeyPatch) -> None:
    rounds: list[int] = []

    def noted(*arguments: Any, **named: Any) -> Any:
        trained = train(*arguments, **named)
        rounds.append(len(trained.history))
        return trained

    monkeypatch.setattr(steps, "train", noted)
    network, ends = nn.Conv2d(1, 1, 1), list[int]()
    steps.take("ours", network, 32, 3, PAPER, SETTING, lambda done, total: ends.append(done))
    assert (rounds, ends) == ([1], [1, 2, 3])


@pytest.mark.slow  # starts processes
def test_memory_and_time_of_training_steps_are_those_of_both_ways() -> None:
    time, memory = (take(EAL, 64, PAPER, SETTING) for take in (steps.train_step, steps.train_step_memory))
    assert len(time.plain) == len(time.ours) == SETTING.rounds * (steps.STEPS - 1)
    assert min(*memory.plain, *memory.ours) > 1 << 20
    forward = forwards.forward_memory(EAL, 640, SETTING)
    # A float32 matrix of 6400 x 6400 scores and its softmax are in the plain way only; one has 156 MiB.
    assert forward.plain[0] - forward.ours[0] > 156 << 20


@pytest.mark.slow  # starts processes
def test_trainings_beside_each_other_count_all_their_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "WARM_UP", 2)
    monkeypatch.setattr(sharing, "STEPS", 6)
    taken: list[tuple[int, int, str, float]] = []
    measured = sharing.images_per_second

    def noted(
        runs: int, entry: ModelEntry, size: int, protocol: Protocol, setting: SpeedupSetting, execution: Execution
    ) -> float:
        # A run alone is one of the same processes, of which each imports torch for seconds.
        speed = measured(runs, entry, size, protocol, setting, execution) if runs > 1 else 7.0
        taken.append((runs, setting.threads, execution, speed))
        return speed

    monkeypatch.setattr(sharing, "images_per_second", noted)
    result = sharing.together(registry.models()["contextnet"], 64, 2, PAPER, replace(SETTING, rounds=1), "eager")
    assert [of[:3] for of in taken] == [(1, 1, "eager"), (2, 1, "auto")]
    assert (result.plain, result.ours) == ((taken[0][3],), (taken[1][3],))
    assert min(*result.plain, *result.ours) > 0
    assert (result.unit, result.what) == ("images/s", "together")
    assert "2 runs at once, 1 thread each" in result.our_form
    assert not multiprocessing.active_children()


@pytest.mark.slow
def test_run_that_dies_beside_others_ends_the_measurement() -> None:
    broken = replace(registry.models()["contextnet"], target="nowhere:Nothing")
    with pytest.raises(RuntimeError, match=r"contextnet: one of 2 runs beside each other died"):
        sharing.images_per_second(2, broken, 64, PAPER, SETTING, "eager")
    assert not multiprocessing.active_children()


def test_replays_give_what_the_plain_form_gives_within_bfloat16(tapes: list[Tape]) -> None:
    result = forwards.replayed(TINYNET, 64, SETTING)
    assert len(result.plain) == len(result.ours) >= 2
    assert tapes[0].replays > len(result.ours)
    assert result.max_difference is not None
    assert result.max_logit is not None
    assert 0 < result.max_difference < 0.05 * result.max_logit
    assert "replayed as a CUDA graph" in result.our_form


def test_loop_s_share_is_what_is_left_of_forward_backward_and_optimiser(pack: Pack) -> None:
    settings = load_protocol("paper", ["input.size=64", "split.validation=0.2", "split.test=0.2"])
    result = loop_share.loop(registry.models()["contextnet"], pack, settings, SETTING)
    assert 0 < result.ours[0] < 1
    assert "10 images" in result.our_form
    assert torch.Tensor.backward.__qualname__ == "Tensor.backward"


def test_ratios_are_plain_over_ours_for_costs_and_ours_over_plain_for_speeds() -> None:
    assert speedup_table.ratio(comparison(plain=(30, 40, 80), ours=(10, 20, 30))) == 2
    assert speedup_table.ratio(comparison(what="feeding", model=None, unit="images/s", plain=(10,), ours=(50,))) == 5
    assert speedup_table.ratio(comparison(what="loop", unit="share", ours=(0.03,))) is None


def test_table_tells_medians_ratios_spread_and_the_geometric_mean() -> None:
    created = [
        comparison(model="eal_icnet", plain=(40.0,), ours=(10.0,)),
        comparison(model="unet", plain=(10.0, 20.0, 40.0), ours=(10.0, 10.0, 10.0), max_difference=2e-6, max_logit=2.0),
        comparison(model="fcn", plain=(30.0, 30.0), ours=(10.0, 11.0)),
        comparison(dtype="bfloat16", plain=(8.0,), ours=(4.0,), pixels=1000, differing_pixels=1),
        comparison(what="start_up", model=None, size=None, unit="s", ours=(5.0, 6.0)),
    ]
    table = speedup_table.table(StudyResults(None, (), {}, (), comparisons=tuple(created)))
    assert [block.title.partition(",")[0] for block in table.blocks] == [
        *["Forward of one image at 64×64"] * 2,
        "Start-up to the first training step",
    ]
    first, half, start = table.blocks
    assert [row.key for row in first.rows] == ["eal_icnet", "fcn", "unet"]
    unet = first.rows[2].cells
    assert (unet["plain"].mean, unet["ours"].mean, unet["ratio"].mean) == (20, 10, 2)
    assert unet["spread"].mean == pytest.approx(0.75)
    assert unet["difference"].mean == pytest.approx(1e-6)
    mean = statistics.geometric_mean((30 / 10.5, 2))
    assert any(f"other than EAL-ICNet: {mean:.2f}" in line for line in first.conventions)
    assert half.rows[0].cells["agreement"].mean == pytest.approx(0.999)
    assert start.rows[0].cells.keys() == {"ours", "spread"}
    assert "2.00" in render.to_markdown(table)


def test_row_that_is_slower_than_the_plain_way_says_so_below_the_table() -> None:
    created = (comparison(model="fcn", plain=(20.0,), ours=(10.0,)), comparison(plain=(10.0,), ours=(20.0,)))
    table = speedup_table.table(StudyResults(None, (), {}, (), comparisons=created))
    assert [row.remark for row in table.blocks[0].rows] == ["", "0.50 times the plain way: behind it"]
    assert "UNet: 0.50 times the plain way: behind it" in render.to_markdown(table)


def test_hindered_row_is_marked_and_in_no_mean_and_no_plot() -> None:
    hindered = comparison(model="fcn", plain=(90.0,), ours=(1.0,), hindered=("the processor was taken away",))
    others = [comparison(model=name, plain=(20.0,), ours=(10.0,)) for name in ("unet", "hrnet")]
    study = StudyResults(None, (), {}, (), comparisons=(hindered, *others))
    (block,) = speedup_table.table(study).blocks
    rows = {row.key: row for row in block.rows}
    assert [cell.hindered for key, cell in rows["fcn"].cells.items() if key != "spread"] == [True] * 3
    assert rows["fcn"].remark == "the processor was taken away"
    assert not any(cell.hindered for cell in rows["unet"].cells.values())
    assert any("other than EAL-ICNet: 2.00" in line for line in block.conventions)
    assert any(line.startswith(render.HINDERED) for line in block.conventions)
    ((_, figure),) = speedup_plot.draw(study)
    assert not any("FCN" in label.get_text() for label in figure.axes[0].get_yticklabels())


def test_comparisons_alone_make_a_report_that_is_rebuilt_from_their_files(tmp_path: Path) -> None:
    study = tmp_path / "bench"
    for one in (comparison(plain=(30.0, 40.0), ours=(10.0, 10.0)), comparison(what="loop", unit="share", ours=(0.03,))):
        (study / "bench").mkdir(parents=True, exist_ok=True)
        (study / "bench" / one.file_name).write_bytes(one.to_json())
    report.build(study)
    rows = list(csv.DictReader(io.StringIO((study / "report/tables/bench.csv").read_text("utf-8"))))
    assert {row["metric"]: row["mean"] for row in rows if row["what"] == "forward"}["ratio"] == "3.5"
    assert {path.name for path in (study / "report/plots").iterdir()} == {"bench.pdf", "bench.png"}
    assert report.check(study) == []
    (study / "report/tables/bench.md").write_text("faster")
    assert len(report.check(study)) == 1


def test_comparison_says_what_it_was_made_with_and_so_do_table_and_page(tmp_path: Path) -> None:
    study = tmp_path / "bench"
    packages = Store(study).write_packages(provenance.packages())
    one = replace(SETTING, facts={"package_list": packages}).comparison(
        what="forward", model="unet", size=64, unit="ms", plain=(2.0,), ours=(1.0,), plain_form="slow", our_form="fast"
    )
    facts = one.environment
    assert facts["python"] == platform.python_version()
    assert facts["packages"]["numpy"] == np.__version__
    assert facts["torch_threads"] == SETTING.threads
    assert facts["code"] == provenance.code()
    (study / "bench").mkdir()
    (study / "bench" / one.file_name).write_bytes(one.to_json())
    report.build(study)
    table, page = ((study / "report" / name).read_text("utf-8") for name in ("tables/bench.md", "index.html"))
    assert f"torch {torch.__version__}, Python {platform.python_version()}, {platform.system()}" in table
    assert str(provenance.code()["commit"] or provenance.code()["content"])[:12] in table
    assert all(f"<td>{said}</td>" in page for said in (np.__version__, packages, facts["os"]))
    assert "Hardware and software of the comparisons" in page
    assert "Times faster" in page
    assert "<svg" in page


@pytest.mark.usefixtures("blank_plots")
def test_files_of_earlier_releases_have_no_environment_and_are_still_reported(tmp_path: Path) -> None:
    content = json.loads(comparison(plain=(2.0,), ours=(1.0,)).to_json())
    del content["environment"]
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench/forward.unet.json").write_text(json.dumps(content))
    report.build(tmp_path)
    assert f" torch {torch.__version__}.\n" in (tmp_path / "report/tables/bench.md").read_text("utf-8")
    assert "computed with" not in (tmp_path / "report/index.html").read_text("utf-8")


@pytest.mark.slow  # five minutes: generates 200 images, and starts `run` four times
def test_verb_measures_every_kind_of_work(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "ROUNDS", 1)
    monkeypatch.setattr(bench, "TIMINGS", 2)
    monkeypatch.setattr(bench, "SECONDS", 0.0)
    code, out, err = call("bench", "--models", "edanet", "--sizes", "64,96", "--device", "cpu", "--threads", "1")
    assert code == 0, err
    kinds = {path.name.partition(".")[0] for path in Path("results/bench/bench").iterdir()}
    assert kinds == set(bench.EACH.split(", ")) - {"replayed", "together_replayed", "int8"}
    assert "has no runs of edanet" in out
    assert "masks are not compared" in out


@pytest.mark.usefixtures("blank_plots")
def test_network_that_fails_is_a_line_and_exit_code_1_and_the_others_are_measured(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "METHOD", "contextnet")  # EAL-ICNet takes longer
    monkeypatch.setattr(bench, "TIMINGS", 2)
    monkeypatch.setattr(bench, "SECONDS", 0.0)
    models = ("--models", f"{TINY}:TinyNet,{TINY}:RaisesOnImages")
    code, out, err = call("bench", *models, "--sizes", "32", "--only", "forward", "--device", "cpu", "--threads", "1")
    assert (code, err) == (1, "")
    (line,) = (line for line in out.splitlines() if "failed" in line)
    assert line.startswith("forward raisesonimages 32: failed (error): RuntimeError: the sort of bug that shows late")
    assert "tiny.py:" in line
    files = {path.name.split(".")[1] for path in Path("results/bench/bench").iterdir()}
    assert files == {"contextnet", "tinynet"}
    assert "| ContextNet" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--only", "forwards"), "--only 'forwards': expected forward, .*; did you mean 'forward'"),
        (("--sizes", "60"), "--sizes 60: eal_icnet takes multiples of 8"),
        (("--weights", "../x"), "--weights ../x: no such folder; expected a study's folder"),
    ],
)
def test_wrong_flags_of_bench_are_refused(call: Call, arguments: tuple[str, ...], message: str) -> None:
    code, _, err = call("bench", "--device", "cpu", *arguments)
    assert code == 2
    assert err.startswith("benchmark: ")
    assert re.search(message, err), err
    assert not Path("results").exists()


def test_what_the_verb_knows_is_what_files_may_hold() -> None:
    tables = (speedup_table.TITLES, runtimes_table.KINDS, int8_table.KINDS)
    assert sorted(bench.EACH.split(", ")) == sorted(itertools.chain(*tables)) == sorted(get_args(ComparedWork))
