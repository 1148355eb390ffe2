"""Datasets that a user registers: TOML files, entry points, and what they change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import pytest

from benchmark.config.protocol import load_protocol
from benchmark.data import specs
from benchmark.data.datasets import Source, choose, resolve
from benchmark.data.fingerprint import HashCache
from benchmark.data.specs import DatasetSpec
from benchmark.utils.errors import UserError
from tests.benchmark.data.folder_makers import add_pair, make_folder, picture


def write(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines), "utf-8")
    return path


def find(name: str, root: Path) -> Source:
    (result,) = resolve(name, root, load_protocol("quick"), HashCache(root.parent / "hashes.json"))
    return result


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    def installed(name: str, value: str) -> None:
        specs.from_entry_points.cache_clear()
        points = metadata.EntryPoints([metadata.EntryPoint(name, value, specs.ENTRY_POINTS)])
        monkeypatch.setattr(specs.metadata, "entry_points", points.select)

    yield installed
    specs.from_entry_points.cache_clear()


def test_toml_file_in_the_data_root_registers_a_dataset(tmp_path: Path) -> None:
    make_folder(tmp_path / "scans" / "run7", ["f1_a", "f1_b", "f2_a"])
    write(tmp_path / "data" / "mychip.toml", 'root = "../scans/run7"', "target = 'via'", "group = '(f\\d+)_'")
    result = find("mychip", tmp_path / "data")
    assert (result.name, result.target) == ("mychip", "via")
    assert [pair.group for pair in result.pairs] == ["f1", "f1", "f2"]


@pytest.mark.parametrize("line", ["levels = [800, 3200]", "target = 'via'"])
def test_fingerprint_depends_on_reader_settings(tmp_path: Path, line: str) -> None:
    """Else a study would leave runs alone that saw other gray values or looked for something else."""
    make_folder(tmp_path / "data" / "mychip", ["a"])
    before = find("mychip", tmp_path / "data").fingerprint
    write(tmp_path / "data" / "mychip.toml", line)
    assert find("mychip", tmp_path / "data").fingerprint != before


def test_toml_file_can_be_named_by_path(tmp_path: Path) -> None:
    make_folder(tmp_path / "elsewhere" / "chip2", ["a"])
    file = write(tmp_path / "elsewhere" / "chip2.toml", "channels = 3")
    result = find(str(file), tmp_path / "data")
    assert (result.name, [pair.name for pair in result.pairs]) == ("chip2", ["a"])


def test_two_toml_files_of_one_name_are_refused(tmp_path: Path) -> None:
    files = [str(write(tmp_path / folder / "chip.toml", "channels = 3")) for folder in ("old", "new")]
    assert choose([files[0], files[0]], tmp_path).keys() == {"chip"}
    with pytest.raises(UserError, match=r"old/chip\.toml and .*new/chip\.toml both describe 'chip'.*rename one"):
        choose(files, tmp_path)


def test_toml_file_of_known_dataset_keeps_other_fields(tmp_path: Path) -> None:
    make_folder(tmp_path / "data" / "omv", ["a"])
    write(tmp_path / "data" / "omv.toml", "group = '(.)'")
    (spec,) = choose("omv", tmp_path / "data").values()
    assert (spec.target, spec.shown, spec.group) == ("via", "OMV", "(.)")


def test_registered_dataset_without_folder_is_refused_without_standin(tmp_path: Path) -> None:
    write(tmp_path / "data" / "omc.toml", "channels = 3")
    with pytest.raises(UserError, match=r"omc: no such folder"):
        find("omc", tmp_path / "data")
    assert find("omc-syn", tmp_path / "data").synthetic


def test_size_and_channels_set_protocol_defaults(tmp_path: Path) -> None:
    expected = [DatasetSpec(name="mychip", size=256, channels=3)]
    fitted = specs.fit(load_protocol("paper"), expected).input
    assert (fitted.size_for("mychip"), fitted.channels_for("mychip")) == (256, 3)
    assert (fitted.size_for("omc"), fitted.channels_for("omc")) == (512, 1)
    caught = load_protocol("paper", ["input.size_by_dataset.mychip=128", "input.channels_by_dataset.mychip=1"])
    assert (
        specs.fit(caught, expected).input.size_for("mychip"),
        specs.fit(caught, expected).input.channels_for("mychip"),
    ) == (
        128,
        1,
    )
    assert specs.fit(load_protocol("quick"), expected).input.size_for("mychip") == 64  # minutes stay minutes


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("chanels = 3", r"mychip\.toml: no field 'chanels'; did you mean 'channels'\?"),
        ("channels = 2", r"mychip\.toml: channels: "),
        ("target = 'Wire'", r"mychip\.toml: target: layer 'Wire'; expected names of a-z"),
        ("target = 'track+track'", r"mychip\.toml: target: 'track\+track' names a layer twice"),
        ("[categories]\npad = 'vias'", r"categories\.pad: found the layer 'vias'; expected track, via, none, or that"),
        ("[layer_labels]\nvia = 'vias'", r"layer_labels\.via: found the layer 'via'; expected track, or that layer in"),
        ("size = 4", r"mychip\.toml: size: "),
        ("group = '('", r"mychip\.toml: group: no regular expression"),
        ("group = 'frame'", r"mychip\.toml: group: expected a pattern with one group in parentheses"),
        ("levels = [9, 3]", r"mychip\.toml: dataset: levels: expected the lower value first"),
        ("levels = [0, inf]", r"mychip\.toml: levels\.1: "),
        ("name = '../x'", r"mychip\.toml: name '../x'; expected letters"),
        ("size =", r"mychip\.toml: not valid TOML"),
    ],
)
def test_errors_in_toml_file_are_named(tmp_path: Path, line: str, message: str) -> None:
    file = write(tmp_path / "mychip.toml", line)
    with pytest.raises(UserError, match=message):
        specs.load(file)


def test_unreadable_toml_files_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    for name in ("binary.toml", "absent.toml"):
        with pytest.raises(UserError, match=rf"{name}: cannot be read"):
            specs.load(tmp_path / name)


FIELDS = {"target": "via", "about": "from a package"}


def test_installed_package_registers_a_dataset(tmp_path: Path, register: Callable[[str, str], None]) -> None:
    register("labchip", f"{__name__}:FIELDS")
    make_folder(tmp_path / "labchip", ["a"])
    assert find("labchip", tmp_path).target == "via"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (f"{__name__}:absent", "'labchip' = .*cannot be imported"),
        (f"{__name__}:find", "found function; expected a path of a TOML file"),
        ("no.such.package:SPEC", "cannot be imported"),
    ],
)
def test_broken_entry_point_is_named(
    tmp_path: Path, register: Callable[[str, str], None], value: str, message: str
) -> None:
    register("labchip", value)
    with pytest.raises(UserError, match=message):
        choose("labchip", tmp_path)


def test_image_without_frame_name_is_refused(tmp_path: Path) -> None:
    add_pair(tmp_path / "data" / "mychip", "stray", picture(0))
    write(tmp_path / "data" / "mychip.toml", "group = '(f\\d+)_'")
    with pytest.raises(UserError, match=r"stray\.png: the name does not match the dataset's group pattern"):
        find("mychip", tmp_path / "data")
