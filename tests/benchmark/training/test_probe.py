from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from benchmark.cli.progress import open_console
from benchmark.cli.study_display import StudyDisplay
from benchmark.config import registry
from benchmark.config.protocol import Protocol
from benchmark.data.datasets import Source
from benchmark.data.tasks import Task
from benchmark.devices.hardware_slots import Hardware
from benchmark.executors.events import Finished
from benchmark.records.run_record import BOUNDED, BOUNDED_MEANS, Failure
from benchmark.report.read import read_study
from benchmark.report.tables import accuracy_table
from benchmark.runs.failures import describe_failure
from benchmark.runs.perform import perform_job
from benchmark.study.plan import make_plan
from benchmark.study.study import Study
from benchmark.training.probe import ProbeInput, probe_networks
from benchmark.utils.errors import UserError
from tests.benchmark.conftest import TINY, Call, tiny_run

NETWORK = """
import torch
from torch import nn

class MyNet(nn.Module):
    def __init__(self, in_channels=1, classes=1, side=3):
        super().__init__()
        self.c = nn.Conv2d(in_channels, classes, side, padding=side // 2)
        self.n = nn.BatchNorm2d(classes)

    def forward(self, x):
        y = self.c(x)
        return {returned}
"""
Probe = Callable[..., list[str]]


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def write(returned: str = "y", old: str = "", new: str = "") -> Path:
        (tmp_path / "mynet.py").write_text(NETWORK.format(returned=returned).replace(old, new), "utf-8")
        return tmp_path / "mynet.py"

    return write


@pytest.fixture
def probe(write: Callable[..., Path]) -> Probe:
    def probe(
        *changes: str, inputs: tuple[ProbeInput, ...] = (ProbeInput(32, 1, 4),), on_cpu: bool = True
    ) -> list[str]:
        raised: list[str] = []
        probe_networks(registry.select(f"{write(*changes)}:MyNet"), inputs, raised.append, on_cpu=on_cpu)
        return raised

    return probe


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (
            "y[..., ::2, ::2]",
            r"forward of 2x1x32x32 returned 2x1x16x16; expected 2x1x32x32: bring .* to the image's size",
        ),
        ("y.expand(-1, 2, -1, -1)", r"returned 2x2x32x32; expected 2x1x32x32: make the last layer give `classes`"),
        ("y.permute(0, 2, 3, 1)", r"returned 2x32x32x1; expected 2x1x32x32: put the channels before height and width"),
        ("y[:, 0]", r"returned 2x32x32; expected 2x1x32x32: keep the axes"),
        ("y.squeeze(0)", r"forward of 1x1x32x32 returned 1x32x32; expected 1x1x32x32: keep the axes"),
        ("(y, x)", r"returned a tuple of 2; return the tensor of logits alone"),
        ("{{'out': y, 'aux': x}}", r"returned a dict with 'out', 'aux'; return the tensor of logits alone"),
        ("(y, x) if self.training else y", r"forward of 1x1x32x32 in training returned a tuple of 2"),
        ("y.detach()", r"in training returned logits without a gradient; .* leave out detach\(\) and no_grad\(\)"),
        ("y > 0", r"returned torch\.bool; return logits, not a mask"),
        ("self.oops(y)", r"raised AttributeError: 'MyNet' object has no attribute 'oops' \(mynet\.py:13, in forward\)"),
        ("y * float(x.sum().item()) + self.oops", r"no attribute 'oops' \(mynet\.py:13, in forward\)"),  # meta cannot
    ],
)
def test_network_that_does_not_return_logits_is_refused(probe: Probe, returned: str, message: str) -> None:
    with pytest.raises(UserError, match=rf"mynet\.py:MyNet: .*{message}"):
        probe(returned.replace("{{", "{").replace("}}", "}"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("in_channels=1, classes=1", "in_channels=1, num_classes=1", r"takes \(in_channels=1, num_classes=1, side=3\)"),
        ("in_channels=1, classes=1", "classes=1", r"takes .*unexpected keyword argument 'in_channels'"),
        ("classes=1, side=3", "classes=1, *, side", r"missing a required argument: 'side'"),
        (
            "super().__init__()",
            "raise RuntimeError('a bug')",
            r"__init__ with .* RuntimeError: a bug \(mynet\.py:7,",
        ),
        (
            "Conv2d(in_channels",
            "Conv2d(3",
            r"forward of 2x1x32x32 raised RuntimeError: Given.*\(mynet\.py:12,",
        ),
        ("class MyNet", "class OurNet", r"'MyNet' in .*mynet\.py is not there; did you mean 'OurNet'"),
    ],
)
def test_class_that_cannot_be_built_or_called_is_refused(probe: Probe, old: str, new: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        probe("y", old, new)


@pytest.mark.parametrize("returned", ["torch.sigmoid(y)", "y.softmax(1)", "y.clamp(0, 1)", "(y.tanh() + 1) / 2"])
def test_outputs_that_are_no_logits_are_warned_of(probe: Probe, returned: str) -> None:
    (warning,) = probe(returned)
    assert re.search(r"mynet\.py:MyNet: all outputs lie in \[0, 1\], as after a sigmoid; expected logits", warning)


@pytest.mark.parametrize(
    "returned",
    ["y", "y.relu()", "torch.sigmoid(y) - 0.5", "0 * y + 5", "0 * y + x.tanh()", "y * float(x.sum().item() + 1)"],
)
def test_logits_of_any_size_bring_no_warning(probe: Probe, returned: str) -> None:
    assert probe(returned) == []


def test_logits_of_untrained_weights_are_not_taken_for_probabilities(probe: Probe) -> None:
    """Of a head that begins small, and of one that begins at zero."""
    for weight, bias in ((0.0001, 0.3), (0, 0)):
        begin = f"nn.init.constant_(self.c.weight, {weight}); nn.init.constant_(self.c.bias, {bias})"
        assert probe("y", "self.n =", f"{begin}; self.n =") == []


def test_norm_of_a_single_value_is_told_where_batches_have_one_image(probe: Probe) -> None:
    returned = "y + self.n(y.mean((2, 3), keepdim=True))"
    assert probe(returned) == []
    assert probe(returned, inputs=(ProbeInput(32, 1),)) == []
    with pytest.raises(UserError, match=r"got a map of one pixel from one image.*--set training\.batch=8"):
        probe(returned, inputs=(ProbeInput(32, 1, 1),))


def test_network_is_tried_at_each_size_and_number_of_channels(probe: Probe) -> None:
    for fails, inputs in (("1 / (x.shape[-1] - 64)", [32, 64]), ("1 / (x.shape[1] - 3)", [32])):
        squares = [ProbeInput(side, channels) for side in inputs for channels in (1, 3)]
        with pytest.raises(UserError, match="ZeroDivisionError"):
            probe(f"y * ({fails})", inputs=tuple(squares))


def test_exception_on_the_cpu_is_a_warning_where_the_runs_use_a_gpu(probe: Probe) -> None:
    (warning,) = probe("self.oops(y)", on_cpu=False)
    assert "no attribute 'oops'" in warning
    assert "may do better on the GPU" in warning
    with pytest.raises(UserError, match="returned a tuple"):
        probe("(y, y)", on_cpu=False)


def test_neighbours_that_are_imported_by_a_computed_name_are_warned_of(probe: Probe, tmp_path: Path) -> None:
    (tmp_path / "blocks.py").write_text("SIDE = 3", "utf-8")
    code = "import importlib\nimportlib.import_module('.' + 'block' + 's', __package__)\nimport torch\n"
    (warning,) = probe("y", "import torch\n", code)
    assert re.search(r"mynet\.py:MyNet: imports blocks\.py by a computed name", warning)


def test_built_in_networks_are_not_tried_and_random_states_stay(probe: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    state = torch.get_rng_state()
    probe("torch.sigmoid(y)")
    assert torch.equal(torch.get_rng_state(), state)
    monkeypatch.setattr(registry.ModelEntry, "build", None)
    probe_networks(registry.BUILTIN.values(), [ProbeInput(512, 1, 8)], print)


def test_networks_of_smp_are_tried_and_called_by_their_names() -> None:
    entries = registry.select("smp/deeplabv3/tu-test_resnet", figures=False)
    probe_networks(entries, [ProbeInput(64, 1, 2)], print)
    with pytest.raises(
        UserError, match=r"^smp-deeplabv3-tu-test_resnet: a BatchNorm got a map of one pixel from one im"
    ):
        probe_networks(entries, [ProbeInput(64, 1, 1)], print)
    with pytest.raises(
        UserError, match=r"^smp-deeplabv3-tu-test_resnet: forward of 2x1x60x60 raised .*leave the network"
    ):
        probe_networks(entries, [ProbeInput(60, 1, 2)], print)


@pytest.mark.parametrize("dry", [["--dry-run"], []])
def test_run_refuses_before_any_work(call: Call, write: Callable[..., Path], dry: list[str]) -> None:
    arguments = tiny_run("--study", "small", *dry)
    arguments[2] = f"contextnet,{write('(y, x)')}:MyNet"
    code, _, err = call(*arguments)
    assert code == 2
    assert re.search(r"^benchmark: .*mynet\.py:MyNet: forward of 2x1x\d+x\d+ returned a tuple of 2", err)
    assert not Path("results/small/runs").exists()
    assert not Path("results/small/efficiency").exists()


def test_run_warns_of_a_sigmoid_and_goes_on(call: Call, write: Callable[..., Path]) -> None:
    arguments = tiny_run("--dry-run")
    arguments[2] = f"{write('torch.sigmoid(y)')}:MyNet"
    code, out, err = call(*arguments)
    assert code == 0, err
    assert re.search(r"^warning: .*mynet\.py:MyNet: all outputs lie in \[0, 1\]", out, re.MULTILINE)


def test_profile_and_bench_refuse_before_any_work(call: Call, write: Callable[..., Path]) -> None:
    for verb in ("profile", "bench"):
        code, _, err = call(verb, "--models", f"{write('(y, x)')}:MyNet", "--sizes", "32", "--device", "cpu")
        assert code == 2
        assert "returned a tuple of 2; return the tensor of logits alone" in err


def test_failed_run_names_the_line_of_the_users_file_and_the_log(
    make_study: Callable[..., Study], small: Protocol
) -> None:
    (job, *_) = make_plan(make_study(small, "Raises")).todo
    failure = perform_job(job, lambda *_: None)
    assert isinstance(failure, Failure)
    assert re.search(
        r"^RuntimeError: the sort of bug.* \(raised in tiny\.py:\d+, in forward; the whole stack is in "
        r"runs/omc-syn/raises/0/log\.txt\)$",
        failure.message,
    )
    assert job.log == job.study / "runs/omc-syn/raises/0/log.txt"


def test_error_of_a_norm_with_one_value_comes_with_advice() -> None:
    error = ValueError("Expected more than 1 value per channel when training, got input size torch.Size([1, 4, 1, 1])")
    assert re.search(r"--set training\.batch=8", describe_failure(error).message)


def test_run_whose_outputs_are_no_logits_says_so_in_record_terminal_and_table(
    write: Callable[..., Path], tmp_path: Path, small: Protocol, source: Source, cache: Path
) -> None:
    """As where the network could not be tried before."""
    entries = registry.select(f"{write('torch.sigmoid(y)')}:MyNet,{TINY}:TinyNet")
    study = Study(tmp_path / "small", small, entries, [Task((source,), (source,))], Hardware("cpu", 1), cache)
    plan = make_plan(study)
    first, second = plan.todo[:2]
    shown = io.StringIO()
    console = open_console(file=shown, width=200)
    with StudyDisplay(console, plan) as display:
        for job in (first, second):
            display.show(Finished(job, perform_job(job, lambda *_: None), 1.0))
    study.store.write_protocol(small)
    told = "all outputs lie in [0, 1], as after a sigmoid in the network"
    assert shown.getvalue().count(f"    warning: {told}") == 1
    records = {record.model: record for _, record in study.store.survey()[0]}
    assert {model: record.environment.get(BOUNDED) for model, record in records.items()} == {
        **{"mynet": True, "tinynet": None}
    }
    (block,) = accuracy_table.scores(read_study(study.folder), accuracy_table.ACCURACY).blocks
    assert [line for line in block.conventions if told in line] == [f"mynet: {BOUNDED_MEANS}."]
