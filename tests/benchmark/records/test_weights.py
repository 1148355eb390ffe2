"""Tests how the trained networks of a study are found, and refused."""

from __future__ import annotations

import io
import struct
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save, save_file

from benchmark.config import code_identity, registry
from benchmark.config.registry import ModelEntry
from benchmark.records.store import WEIGHTS
from benchmark.records.weights import TrainedNetwork, find_trained, load_weights, non_finite
from benchmark.utils.errors import UserError
from tests.benchmark.report import fake

(CONTEXTNET,) = registry.select("contextnet")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results") / "quick"
    fake.write_protocol(folder)
    for train, repeat in (("omc-syn", 0), ("omc-syn", 1), ("miic-syn", 0)):
        counts = fake.counts(0.9, fake.random_of(train, repeat))
        run = fake.write_run(folder, "contextnet", [train], repeat, counts, identity=code_identity.identity(CONTEXTNET))
        torch.manual_seed(repeat)
        save_file(CONTEXTNET.build().state_dict(), run / WEIGHTS)
    return folder


def found(study: Path, train: str | None, repeat: int | None = None, entry: ModelEntry = CONTEXTNET) -> TrainedNetwork:
    (one,) = find_trained(study, [entry], train, repeat)
    return one


def test_network_has_the_weights_of_the_repeat_and_is_ready_to_predict(study: Path) -> None:
    trained = found(study, "omc-syn", 1)
    network = trained.build()
    torch.manual_seed(1)
    expected = CONTEXTNET.build().state_dict()
    assert not network.training
    assert all(torch.equal(value, expected[name]) for name, value in network.state_dict().items())
    assert (trained.label, trained.input_size, trained.channels) == ("omc-syn/contextnet/1", 96, 1)


@pytest.mark.parametrize(
    ("train", "repeat", "message"),
    [
        (None, None, r"has contextnet trained on miic-syn, omc-syn; name one, as in --datasets miic-syn$"),
        ("omc", None, r"trained on miic-syn, omc-syn, not on omc$"),
        ("omc-syn", 2, r"^--repeat 2: --study quick keeps weights of contextnet on omc-syn from repeat 0, 1;"),
    ],
)
def test_missing_training_set_or_repeat_is_refused(
    study: Path, train: str | None, repeat: int | None, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        found(study, train, repeat)


def test_weights_of_another_version_of_the_network_are_refused(study: Path) -> None:
    with pytest.raises(UserError, match=r"trained as contextnet-v1, but contextnet is contextnet-v2 now"):
        found(study, "omc-syn", 0, replace(CONTEXTNET, version=2))


def test_study_without_weights_is_refused(tmp_path: Path) -> None:
    fake.write_protocol(tmp_path / "quick")
    fake.write_run(tmp_path / "quick", "contextnet", ["omc-syn"], 0, None)
    with pytest.raises(UserError, match=r"^--study quick: no weights in .*omc-syn.contextnet; train that study with"):
        found(tmp_path / "quick", None)


def test_message_names_five_tensors_and_counts_the_others() -> None:
    network = torch.nn.Sequential(*(torch.nn.PReLU() for _ in range(12)))
    with pytest.raises(
        UserError, match=r": 0\.weight is 1 here and none there; (.*; ){3}4\.weight .* and 7 more; expected"
    ):
        load_weights(network, Path("x"), save({}))


def test_folder_that_is_no_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^--study nothing: no study in"):
        found(tmp_path / "nothing", None)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_no_numbers_are_refused(study: Path, tmp_path: Path, value: float) -> None:
    trained = found(study, "omc-syn", 1)
    state = dict(trained.build().state_dict())
    name = next(name for name in state if name.endswith("running_var"))
    state[name] = torch.full_like(state[name], value)
    save_file(state, tmp_path / WEIGHTS)
    with pytest.raises(UserError, match=rf"NaN or infinite values in {name}, .*restore the file or train"):
        replace(trained, file=tmp_path / WEIGHTS).build()


def test_constant_may_be_infinite() -> None:
    network = torch.nn.Conv2d(1, 1, 1)
    network.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
    assert non_finite(network.state_dict(), network) == []
    with torch.no_grad():
        network.weight.fill_(torch.inf)
    assert non_finite(network.state_dict(), network) == ["weight"]


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (torch.ones(2, 2).to(torch.float8_e5m2), r"weight is torch\.float8_e5m2; expected dense tensors of float16"),
        (torch.ones(2, 2, dtype=torch.complex64), r"weight is torch\.complex64"),
        (torch.ones(2, 2, dtype=torch.int8), r"weight is torch\.int8"),
        (torch.ones(2, 2, dtype=torch.bool), r"weight is torch\.bool"),
        (torch.eye(2).to_sparse(), r"weight is nested or sparse \(torch\.sparse_coo\)"),
        (torch.ones(2, 2, device="meta"), r"weight is torch\.float32 on meta"),
        (torch.full((2, 2), 1e300, dtype=torch.float64), r"NaN or infinite values in weight"),
    ],
)
def test_tensors_of_another_kind_are_one_message(weight: torch.Tensor, message: str) -> None:
    file = io.BytesIO()
    torch.save({"weight": weight, "bias": torch.zeros(2)}, file)
    with pytest.raises(UserError, match=rf"^x\.pt: {message}"):
        load_weights(torch.nn.Linear(2, 2), Path("x.pt"), file.getvalue())


def test_float64_and_other_whole_numbers_become_the_network_s() -> None:
    network, file = torch.nn.BatchNorm2d(2), io.BytesIO()
    state = {name: value + 1 for name, value in network.state_dict().items()}
    torch.save({name: value.double() if value.ndim else value.int() for name, value in state.items()}, file)
    load_weights(network, Path("x.pt"), file.getvalue())
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


def test_safetensors_of_an_unknown_type_are_one_message() -> None:
    content = save({"weight": torch.zeros(4, dtype=torch.uint8)}).replace(b'"U8"', b'"F8_E8M0"')
    header = content[8:].partition(b"}}")[0] + b"}}"
    with pytest.raises(UserError, match=r"^x\.safetensors: no safetensors file that can be read"):
        load_weights(torch.nn.Linear(2, 2), Path("x.safetensors"), struct.pack("<Q", len(header)) + header + bytes(4))
