from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from benchmark.config.protocol import PRESETS, load_protocol
from benchmark.data import datasets
from benchmark.data.datasets import FRAME, Source, resolve
from benchmark.data.fingerprint import HashCache
from benchmark.data.synthetic import STANDINS
from benchmark.utils.errors import UserError
from tests.benchmark.data.folder_makers import make_folder


def find(
    names: str | Iterable[str], root: Path, *overrides: str, preset: str = "quick", real: bool = False
) -> list[Source]:
    hashes = HashCache(root / ".cache" / "hashes.json")
    return resolve(names, root, load_protocol(preset, overrides), hashes, real_only=real)


def names(sources: Iterable[Source]) -> list[str]:
    return [source.name for source in sources]


def test_absent_datasets_become_marked_standins(tmp_path: Path) -> None:
    result = find("omc,miic", tmp_path / "nowhere")
    assert names(result) == ["omc-syn", "miic-syn"]
    assert all(source.synthetic and source.count == 64 and source.shape == (128, 128) for source in result)
    assert [source.base for source in result] == ["omc", "miic"]


def test_present_datasets_are_used(tmp_path: Path) -> None:
    make_folder(tmp_path / "omc", ["a", "b"])
    (result,) = find("omc", tmp_path)
    assert (result.name, result.synthetic, [pair.name for pair in result.pairs]) == ("omc", False, ["a", "b"])


def test_standin_can_be_requested_beside_real_data(tmp_path: Path) -> None:
    make_folder(tmp_path / "omc", ["a"])
    assert [(s.name, s.synthetic) for s in find("omc,omc-syn", tmp_path)] == [("omc", False), ("omc-syn", True)]


def test_broken_dataset_is_refused_without_standin(tmp_path: Path) -> None:
    (tmp_path / "omc").mkdir()
    with pytest.raises(UserError, match=r"omc.image: no such folder"):
        find("omc", tmp_path)


def test_link_to_unmounted_folder_is_refused_without_standin(tmp_path: Path) -> None:
    (tmp_path / "omc").symlink_to(tmp_path / "unmounted")
    with pytest.raises(UserError, match="omc: a link that leads nowhere"):
        find("omc", tmp_path)


def test_real_only_refuses_standins(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--real-only: no folder .*miic; add the data"):
        find("miic", tmp_path, real=True)


def test_other_folder_is_user_dataset(tmp_path: Path) -> None:
    make_folder(tmp_path / "mychip", ["a"])
    (tmp_path / ".cache").mkdir()
    (result,) = find("mychip", tmp_path)
    assert (result.name, result.target) == ("mychip", "track")
    assert names(find("my*", tmp_path)) == ["mychip"]


def test_groups_wildcards_and_repetitions(tmp_path: Path) -> None:
    everything = ["omc-syn", "miic-syn", "hy5syn-syn", "omv-syn"]
    assert names(find("all", tmp_path)) == everything
    assert names(find("*", tmp_path)) == everything
    assert names(find("om*", tmp_path)) == ["omc-syn", "omv-syn"]
    assert names(find([" miic ", "omc", "miic"], tmp_path)) == ["miic-syn", "omc-syn"]


def test_unknown_name_suggests_the_nearest(tmp_path: Path) -> None:
    make_folder(tmp_path / "mychip", ["a"])
    with pytest.raises(UserError, match=r"unknown dataset 'hy5sin'; did you mean 'hy5syn'\? \(known: omc, .*mychip\)"):
        find("hy5sin", tmp_path)
    with pytest.raises(UserError, match="--datasets is empty"):
        find(" , ", tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list every folder")
def test_data_root_without_permission_is_refused_without_standin(tmp_path: Path) -> None:
    root = tmp_path / "data"
    root.mkdir(mode=0)
    with pytest.raises(UserError, match=r"--data-root .*data: cannot be listed"):
        resolve("omc", root, load_protocol("quick"), HashCache(tmp_path / "hashes.json"))


def test_file_as_data_root_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"")
    with pytest.raises(UserError, match=r"--data-root .*data: cannot be listed"):
        find("omc", tmp_path / "data")


def test_targets_follow_dataset_or_protocol(tmp_path: Path) -> None:
    assert [source.target for source in find("all", tmp_path)] == ["track", "track", "metal", "via"]
    (result,) = find("hy5syn", tmp_path, "data.hy5syn_target=via")
    assert result.target == "via"


def test_hy5syn_has_frames_only_at_published_tile_size(tmp_path: Path) -> None:
    (frames,) = find("hy5syn", tmp_path, preset="paper")
    assert (frames.shape, frames.count) == (FRAME, 40)
    (tiles,) = find("hy5syn", tmp_path, preset="quick")
    assert (tiles.shape, tiles.count) == ((128, 128), 64)


def test_standin_fingerprint_depends_on_its_image_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fingerprint(*overrides: str) -> str:
        return find("omc", tmp_path, *overrides)[0].fingerprint

    before = fingerprint()
    assert fingerprint("training.lr=0.1", "input.size=64", "name=other") == before
    changed = {fingerprint("seed=1"), fingerprint("input.tile=256"), fingerprint("data.standin_images=65")}
    newer = replace(STANDINS["omc"], version=STANDINS["omc"].version + 1)
    monkeypatch.setattr(datasets, "STANDINS", {**STANDINS, "omc": newer})
    changed.add(fingerprint())
    assert len(changed | {before}) == 5


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("name", STANDINS)
def test_every_preset_draws_enough_tiles_to_train_and_test(name: str, preset: str, tmp_path: Path) -> None:
    protocol = load_protocol(preset)
    (source,) = resolve(f"{name}-syn", tmp_path, protocol, HashCache(None))
    tile = protocol.input.tile_for(name)
    assert source.count * (source.shape[0] // tile) * (source.shape[1] // tile) >= 64
