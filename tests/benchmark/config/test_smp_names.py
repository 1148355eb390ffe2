"""Names of smp's networks: both forms choose them, wildcards stay small, and figures are those that are measured."""

from __future__ import annotations

import subprocess
import sys

import pytest
import segmentation_models_pytorch as smp
import timm
import torch

from baselines.smp_networks import ARCHITECTURES as BUILDABLE
from benchmark.config import code_identity, registry, smp_names
from benchmark.config.registry import select
from benchmark.efficiency.macs import count_macs
from benchmark.efficiency.parameters import split_parameters
from benchmark.utils.errors import UserError
from benchmark.utils.names import is_plain

NAME, TYPED = "smp-fpn-tu-test_resnet", "smp/fpn/tu-test_resnet"


def chosen(patterns: str) -> list[str]:
    return [entry.name for entry in select(patterns, figures=False)]


def test_all_architectures_of_smp_have_a_name_and_a_paper() -> None:
    assert set(smp_names.ARCHITECTURES) == set(BUILDABLE)


@pytest.mark.parametrize("pattern", [NAME, TYPED, "smp/fpn/tu-test_res*", "smp-fpn-tu-test_res*"])
def test_typed_and_recorded_form_choose_the_same_network(pattern: str) -> None:
    (entry,) = select(pattern, figures=False)
    assert (entry.name, entry.display, entry.family) == (NAME, "FPN (tu-test_resnet)", "general")
    assert entry.kwargs == {"architecture": "fpn", "encoder": "tu-test_resnet"}
    assert is_plain(entry.name)
    assert entry == registry.find(NAME)


def test_networks_of_smp_follow_the_registered_ones() -> None:
    assert chosen(f"{TYPED},smp/unet/resnet34,unet,{NAME}") == ["unet", NAME, "smp-unet-resnet34"]


def test_wildcards_match_architecture_and_encoder_each_for_itself() -> None:
    assert chosen("smp/deeplabv3*/resnet18") == ["smp-deeplabv3-resnet18", "smp-deeplabv3plus-resnet18"]
    assert chosen("smp/unet/mit_b[01]") == ["smp-unet-mit_b0", "smp-unet-mit_b1"]
    every = select("smp/*", figures=False, most=None)
    assert len(every) == len(smp.encoders.get_encoder_names() + timm.list_models()) * len(smp_names.ARCHITECTURES)


def test_wildcards_prefer_the_networks_of_a_study() -> None:
    also = [entry for name in (NAME, "smp-unet-resnet34") if (entry := registry.find(name))]
    assert [entry.name for entry in select("smp/*/*", also, figures=False)] == [NAME, "smp-unet-resnet34"]
    assert [entry.name for entry in select("smp*net34", also, figures=False)] == ["smp-unet-resnet34"]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("smp/unet/*", r"names 1,\d\d\d networks; at most 20 of one wildcard .* `benchmark list models 'smp/unet/\*'`"),
        ("smp/unet/mit_b00", r"no encoder 'mit_b00'; did you mean 'mit_b0'\?"),
        ("smp/unet/convnext_tiny", r"did you mean 'tu-convnext_tiny'\?"),
        ("smp/unet/tu-convnext_tiny.in12k", r"did you mean 'tu-convnext_tiny'\? \(leave out the tag"),
        ("smp/unett/resnet34", r"smp has no architecture 'unett'; did you mean 'unet'\? \(known: unet, "),
        ("smp/unet", "'smp/unet': no encoder; expected smp/ARCHITECTURE/ENCODER, such as smp/unet/resnet34"),
        ("smp/linknet/mit_b0", "--models smp/linknet/mit_b0: smp cannot build linknet on mit_b0 .*; choose another"),
    ],
)
def test_unusable_names_are_refused(pattern: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        select(pattern)


def test_figures_are_those_that_are_measured_later() -> None:
    (entry,) = select("smp/linknet/tu-test_resnet")  # the quickest to try
    assert entry == registry.measured(entry)
    assert entry.multiple == 32
    with torch.device("meta"):
        network = entry.build().eval()
    assert split_parameters(network, (1, 1, 64, 64)) == (entry.params, {})
    for side in (512, 1024):
        assert entry.gmacs(side, side) == pytest.approx(sum(count_macs(network, (1, 1, side, side))[0].values()) / 1e9)
    assert entry.paper == "arXiv:1707.03718; arXiv:1512.03385"


def test_versions_of_smp_and_timm_are_part_of_a_run_s_key(monkeypatch: pytest.MonkeyPatch) -> None:
    (entry,) = select(TYPED, figures=False)
    digests = code_identity.code_digests(entry)
    assert digests == {"segmentation-models-pytorch": smp.__version__, "timm": timm.__version__}
    before = code_identity.identity(entry)
    assert before.startswith(f"{NAME}-v1-")
    monkeypatch.setattr(code_identity.importlib.metadata, "version", lambda package: f"next {package}")
    assert code_identity.identity(entry) != before


def test_reviewers_are_five_with_a_reason_each_and_belong_to_no_other_group() -> None:
    names = chosen("reviewers")
    assert sorted(names) == sorted(smp_names.REVIEWERS)
    assert len(names) == 5
    assert not set(names) & set(chosen("all,ic,lightweight"))
    assert all(smp_names.REVIEWERS.values())


def test_records_name_networks_without_torch() -> None:
    code = f"import sys; from benchmark.config import registry; print(registry.find('{NAME}').display)"
    shown = subprocess.run(
        [sys.executable, "-c", f"{code}; print('torch' in sys.modules)"], check=True, capture_output=True, text=True
    )
    assert shown.stdout == "FPN (tu-test_resnet)\nFalse\n"
