"""``training.encoder_weights = FILE``: what a run starts from, its key, and the files that are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from benchmark.config import registry
from benchmark.config.protocol import Protocol, load_protocol, protocol_differences
from benchmark.data.datasets import Source
from benchmark.data.tasks import Task
from benchmark.devices.hardware_slots import Hardware
from benchmark.runs.train import build_network, train_and_test
from benchmark.study.execute import execute
from benchmark.study.plan import make_plan
from benchmark.study.study import Study
from benchmark.utils.errors import UserError
from tests.benchmark.conftest import SMALL, Call, tiny_run
from tests.benchmark.pretend import Pretend

NETWORK = """
from torch import nn
class Net(nn.Module):
    def __init__(self, in_channels=1, classes=1):
        super().__init__()
        self.encoder = nn.Conv2d(in_channels, 4, 3, padding=1)
        self.head = nn.Conv2d(4, classes, 1)
    def forward(self, x):
        return self.head(self.encoder(x).relu())
"""
Make = Callable[..., Study]


@pytest.fixture
def make(tmp_path: Path, source: Source, cache: Path) -> Make:
    (tmp_path / "net.py").write_text(NETWORK)

    def study(name: str, weights: str | Path) -> Study:
        entries, task = registry.select(f"{tmp_path / 'net.py'}:Net"), Task((source,), (source,))
        return Study(tmp_path / name, protocol(weights), entries, [task], Hardware("cpu", 1), cache)

    return study


def protocol(weights: str | Path) -> Protocol:
    return load_protocol("quick", [*SMALL, "repeats=1", f"training.encoder_weights={weights}"])


def encoder(value: float, in_channels: int = 1) -> dict[str, torch.Tensor]:
    return {"weight": torch.full((4, in_channels, 3, 3), value), "bias": torch.zeros(4)}


def test_run_starts_from_the_encoder_of_the_file_and_all_else_as_before(make: Make, tmp_path: Path) -> None:
    torch.save(encoder(0.5), tmp_path / "encoder.pth")
    (job,), (plain,) = (make_plan(make("one", name)).todo for name in (tmp_path / "encoder.pth", "none"))
    result, drawn = build_network(job).state_dict(), build_network(plain).state_dict()
    assert (result["encoder.weight"] == 0.5).all()
    assert not torch.equal(drawn["encoder.weight"], result["encoder.weight"])
    assert torch.equal(result["head.weight"], drawn["head.weight"])
    assert train_and_test(job, lambda *_: None).status == "ok"


def test_key_has_the_content_of_the_file_and_not_its_place(tmp_path: Path) -> None:
    digests = []
    for name, value in (("a.pth", 0.5), ("b.pth", 0.5), ("c.pth", 0.6)):
        save_file(encoder(value), tmp_path / name)
        digests.append(protocol(tmp_path / name).digest())
    digests.append(protocol("none").digest())
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_file_that_changes_after_the_plan_is_refused(make: Make, tmp_path: Path) -> None:
    torch.save(encoder(0.5), tmp_path / "encoder.pth")
    (job,) = make_plan(make("one", tmp_path / "encoder.pth")).todo
    torch.save(encoder(0.6), tmp_path / "encoder.pth")
    with pytest.raises(UserError, match=r"the encoder's weights, were .* when this run was planned and are"):
        train_and_test(job, lambda *_: None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (encoder(0.5, in_channels=3), r"encoder\.pth: does not fit the network: weight is 4x1x3x3 here and 4x3x3x3 th"),
        (
            {"weight": torch.zeros(4, 1, 3, 3)},
            r"bias is 4 here and none .*state_dict of this network's module .* with 1 input",
        ),
        ([Path("x")], r"encoder\.pth: no file of tensors alone"),
    ],
)
def test_other_shapes_and_pickles_are_refused_before_any_work(
    make: Make, tmp_path: Path, content: Any, message: str
) -> None:
    torch.save(content, tmp_path / "encoder.pth")
    study, executor = make("one", tmp_path / "encoder.pth"), Pretend()
    with pytest.raises(UserError, match=message):
        execute(study, make_plan(study), executor, lambda _: None)
    assert executor.jobs == []
    assert not study.folder.exists()


def test_network_without_an_encoder_and_names_of_no_file_are_one_message(call: Call, tmp_path: Path) -> None:
    torch.save(encoder(0.5), tmp_path / "encoder.pth")
    for value, message in (
        ("encoder.pth", "tinynet: has no module `encoder` for encoder.pth; use --set training.encoder_weights=none"),
        ('"a\\u0000b"', r"found 'a\x00b', which cannot be read (embedded null byte)"),
        ("imagenets", "found 'imagenets', which cannot be read (No such file or directory); did you mean 'imagenet'?"),
    ):
        code, _, err = call(*tiny_run("--set", f"training.encoder_weights={value}"))
        assert (code, len(err.splitlines())) == (2, 1)
        assert message in err


def test_place_of_the_file_is_no_difference_and_is_shown_nowhere(tmp_path: Path) -> None:
    places = (tmp_path / "a/encoder.pth", tmp_path / "b/moved.pth", tmp_path / "b/other.pth")
    for file, value in zip(places, (0.5, 0.5, 0.6), strict=True):
        file.parent.mkdir(exist_ok=True)
        save_file(encoder(value), file)
    first, moved, other = map(protocol, places)
    assert protocol_differences(first, moved) == []
    (hashes,) = protocol_differences(first, other)
    assert hashes.startswith("extensions.encoder_weights: ")
    lines = protocol_differences(protocol("none"), first)
    assert lines[1] == "training.encoder_weights: none -> 'encoder.pth'"
    assert str(tmp_path) not in "".join(lines)
