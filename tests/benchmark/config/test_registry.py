from __future__ import annotations

import importlib.metadata
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from torch import nn

from benchmark.config import code_identity, registry
from benchmark.config.code_identity import code_digest, identity
from benchmark.config.registry import ModelEntry, models, select
from benchmark.utils.errors import UserError

LIGHTWEIGHT = ["irdpnet", "edanet", "contextnet", "esnet", "letnet"]
IC = ["fcn", "unet", "hrnet", "manet", "unetpp"]
NETWORK = """
from torch import nn

class {name}(nn.Conv2d):
    def __init__(self, in_channels=1, classes=1):
        super().__init__(in_channels, classes, 1)
"""


def names(patterns: str | list[str]) -> list[str]:
    return [entry.name for entry in select(patterns)]


@pytest.fixture
def network_file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(NETWORK.format(name="MyNet"), "utf-8")
    return path


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Make it look as if a package with these entry points were installed."""

    def installed(**points: str) -> None:
        code_identity.installed.cache_clear()
        group = code_identity.ENTRY_POINT_GROUP
        result = [importlib.metadata.EntryPoint(name, value, group) for name, value in points.items()]
        monkeypatch.setattr(importlib.metadata, "entry_points", importlib.metadata.EntryPoints(result).select)

    yield installed
    code_identity.installed.cache_clear()


def test_plan_imports_no_torch() -> None:
    use = "from benchmark.config.registry import select; select('all,hrnet*')"
    code = f"import sys; {use}; print('torch' in sys.modules)"
    raised = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert raised.stdout == "False\n"


def test_groups_hold_what_they_say_in_table_order() -> None:
    assert names("lightweight") == LIGHTWEIGHT
    assert names("ic") == IC
    assert names("all") == ["eal_icnet", *LIGHTWEIGHT, *IC]


def test_order_and_repetitions_of_patterns_do_not_matter() -> None:
    assert names("unet,ic,eal_icnet,unet") == names([" eal_icnet ", "unet", "ic"]) == ["eal_icnet", *IC]


def test_names_of_records_can_be_chosen_too_but_belong_to_no_group() -> None:
    also = [registry.user_entry(name, name) for name in ("mynet", "unet", "tinynet")]
    assert [entry.name for entry in select("my*,unet", also)] == ["unet", "mynet"]
    assert [entry.name for entry in select("all", also)] == ["eal_icnet", *LIGHTWEIGHT, *IC]
    with pytest.raises(UserError, match=r"unknown model 'mynett'; did you mean 'mynet'\?"):
        select("mynett", also)


def test_file_s_class_may_have_the_name_of_a_record(network_file: Path) -> None:
    assert [entry.name for entry in select(f"{network_file}:MyNet", [registry.user_entry("mynet", "mynet")])] == [
        "mynet"
    ]


@pytest.mark.parametrize("group", registry.GROUPS)
def test_variants_and_the_users_networks_are_in_no_group(group: str, install: Callable[..., None]) -> None:
    install(mynet="package.module:MyNet")
    names = [entry.name for entry in select(group, figures=False)]
    assert not any("." in name for name in names)
    assert "mynet" not in names


def test_wildcards_reach_variants() -> None:
    assert names("unet*") == ["unet", "unetpp", "unetpp.b7"]
    assert names("hrnet.*") == ["hrnet.w18", "hrnet.w18_small_v2"]
    assert names("eal_icnet.no_*") == [f"eal_icnet.no_{x}" for x in ("tssa", "pam", "dilation", "dab1", "dab2")]
    assert names("eal_icnet.no_pam") == ["eal_icnet.no_pam"]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("unett", r"unknown model 'unett'; did you mean 'unet'\? \(known: eal_icnet, irdpnet, .*groups: all"),
        ("lightwait", r"did you mean 'lightweight'\?"),
        ("zzz*", r"unknown model 'zzz\*' \(known: "),
        ("", "--models is empty; expected names out of eal_icnet"),
        ("nowhere.py:Net", r"no file 'nowhere\.py'"),
        ("nowhere.py", r"'nowhere\.py': no class named; expected path/to/file\.py:Class"),
        ("nowhere.py:", "no class named"),
    ],
)
def test_unknown_names_are_refused(pattern: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        select(pattern)


def test_one_name_for_two_networks_is_a_bug_of_the_table() -> None:
    entry = models()["unet"]
    with pytest.raises(ValueError, match="'unet' is registered twice"):
        registry.by_name(entry, entry)


def test_network_named_by_path_is_loaded_and_built(network_file: Path) -> None:
    (entry,) = select(f"{network_file}:MyNet")
    assert (entry.name, entry.family, entry.params, entry.gmacs(512, 512)) == ("mynet", "user", None, None)
    network = entry.build(in_channels=3, classes=2)
    assert isinstance(network, nn.Conv2d)
    assert (network.in_channels, network.out_channels) == (3, 2)
    assert entry.load() is entry.load()


def test_network_named_by_path_follows_the_shipped_ones(network_file: Path) -> None:
    assert names([f"{network_file}:MyNet", "unetpp", "eal_icnet"]) == ["eal_icnet", "unetpp", "mynet"]


def test_editing_a_network_file_changes_its_hash(network_file: Path) -> None:
    (entry,) = select(f"{network_file}:MyNet")
    before = code_digest(entry)
    assert before == code_digest(entry)
    network_file.write_text(network_file.read_text("utf-8") + "\n# edited\n", "utf-8")
    assert code_digest(entry) != before
    assert identity(entry) == f"mynet-v1-{code_digest(entry)}"
    assert identity(models()["unet"]) == "unet-v1"


def test_path_may_not_take_a_known_name_or_another_paths(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "net.py").write_text(NETWORK.format(name="Net"), "utf-8")
    with pytest.raises(UserError, match="are both called 'net'; rename one of the classes"):
        select([f"{tmp_path}/one/net.py:Net", f"{tmp_path}/two/net.py:Net"])
    with pytest.raises(UserError, match="the name 'unet' is taken; rename the class"):
        select(f"{tmp_path}/one/net.py:UNet")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("def broken(:", "SyntaxError"),
        ("import no_such_package", "ModuleNotFoundError"),
        ("1 / 0", "ZeroDivisionError"),
        ("undefined", "NameError"),
    ],
)
def test_broken_file_is_the_users_error(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "broken.py"
    path.write_text(content, "utf-8")
    (entry,) = select(f"{path}:MyNet")
    for _ in range(2):  # a half-imported module must not be found by the second try
        with pytest.raises(UserError, match=rf"model 'mynet': cannot load .*broken\.py:MyNet' \({message}"):
            entry.load()


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("class MyNet: pass", "a type"),
        ("MyNet = 3", "a int"),
        ("def MyNet(): pass", "a function"),
        ("class Other: pass", "not there; expected"),
        (
            "from torch import nn\nclass MyNett(nn.Module): pass",
            r"not there; did you mean 'MyNett'\?.*\(there: MyNett\)",
        ),
    ],
)
def test_something_that_is_no_network_is_the_users_error(tmp_path: Path, content: str, found: str) -> None:
    path = tmp_path / "other.py"
    path.write_text(content, "utf-8")
    with pytest.raises(UserError, match=rf"'mynet': 'MyNet' in .*other\.py is {found}"):
        select(f"{path}:MyNet")[0].load()


def test_installed_package_adds_a_network(
    install: Callable[..., None], network_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(network_file.parent))
    install(mynet="mine:MyNet")
    assert list(models())[-1] == "mynet"
    (entry,) = select("mynet")
    assert entry.family == "user"
    assert isinstance(entry.build(), nn.Conv2d)
    assert names("my*") == ["mynet"]


@pytest.mark.parametrize("name", ["unet", "all", "lightweight"])
def test_installed_package_may_not_take_a_name(install: Callable[..., None], name: str) -> None:
    install(**{name: "package.module:Net"})
    with pytest.raises(UserError, match=rf"entry point '{name}' = 'package\.module:Net': the name is taken"):
        models()


def test_package_whose_module_is_missing_is_the_users_error(install: Callable[..., None]) -> None:
    install(mynet="no_such_package:MyNet", nothing="MyNet")
    for name in ("mynet", "nothing"):
        with pytest.raises(UserError, match=f"model '{name}': cannot load"):
            select(name)[0].load()


# Published or counted elsewhere: parameters at one channel and class, GMAC at 512x512 and at 1024x1024.
FIGURES = {
    "eal_icnet": (802_698, 7.680, 59.71),
    "irdpnet": (1_063_149, 5.737, 22.95),
    "edanet": (681_171, 4.370, 17.48),
    "contextnet": (873_089, 0.791, 3.168),
    "esnet": (1_657_687, 11.94, 47.75),
    "letnet": (949_808, 6.678, 27.62),
    "fcn": (18_642_561, 85.3, 341),
    "unet": (13_394_177, 123.38, 493.5),
    "hrnet": (65_845_249, 93.15, 372.6),
    "manet": (8_679_621, 11.32, 45.57),
    "unetpp": (6_156_845, 22.03, 88.12),
}


@pytest.mark.parametrize("name", FIGURES)
def test_expected_cost_at_both_sizes(name: str) -> None:
    entry = models()[name]
    params, at_512, at_1024 = FIGURES[name]
    assert entry.params == params
    assert entry.gmacs(512, 512) == pytest.approx(at_512)
    assert entry.gmacs(1024, 1024) == pytest.approx(at_1024, rel=2e-3)  # figures are given to three digits or more
    small = entry.gmacs(96, 96)
    assert small is not None
    assert 0 < small < at_512 * (96 / 512) ** 2 * 1.01


def test_variants_differ_from_their_parent_in_arguments_and_name_alone() -> None:
    table = models()
    for name, entry in table.items():
        parent = table[name.partition(".")[0]]
        assert (entry.target, entry.family, entry.multiple) == (parent.target, parent.family, parent.multiple)
        assert bool(entry.kwargs) == ("." in name)
    assert len({entry.display for entry in table.values()}) == len(table)


def test_entries_travel_to_other_processes_and_can_be_keys() -> None:
    for entry in models().values():
        assert pickle.loads(pickle.dumps(entry)) == entry
        assert {entry: 1}[entry] == 1


def test_built_in_table_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        registry.BUILTIN["unet"] = ModelEntry("x", "x:X", "user", "x", "", None, None, 1)  # type: ignore[index]
