from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from torch import nn

import models.attention
from benchmark.config import code_identity, registry
from benchmark.config.code_identity import code_digests, identity
from benchmark.config.protocol import Protocol
from benchmark.config.registry import ModelEntry
from benchmark.data.datasets import Source
from benchmark.data.tasks import Task
from benchmark.devices.hardware_slots import Hardware
from benchmark.records.measurements import is_of, read
from benchmark.records.run_record import Failure, Record
from benchmark.runs.perform import perform_job
from benchmark.study.plan import make_plan
from benchmark.study.study import Study
from benchmark.utils.errors import UserError
from tests.benchmark.conftest import TINY
from tests.benchmark.report import fake

NETWORK = """
from torch import nn
{imports}

class MyNet(nn.Conv2d):
    def __init__(self, in_channels=1, classes=1):
        super().__init__(in_channels, classes, {side})
"""

Write = Callable[[Mapping[str, str]], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(files: Mapping[str, str]) -> Path:
        for name, content in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(content, "utf-8")
        return tmp_path

    return write


def entry_of(file: Path) -> ModelEntry:
    (entry,) = registry.select(f"{file}:MyNet")
    return entry


def side_of(entry: ModelEntry) -> int:
    network = entry.build()
    assert isinstance(network, nn.Conv2d)
    return network.kernel_size[0]


@pytest.mark.parametrize(
    ("imports", "helper"),
    [
        ("from blocks import SIDE", "blocks.py"),
        ("import blocks\nSIDE = blocks.SIDE", "blocks.py"),
        ("from .blocks import SIDE", "blocks.py"),
        ("from . import blocks\nSIDE = blocks.SIDE", "blocks.py"),
        ("from parts.deep.blocks import SIDE", "parts/deep/blocks.py"),
        ("import parts.deep.blocks as blocks\nSIDE = blocks.SIDE", "parts/deep/blocks.py"),
        ("from between import SIDE", "blocks.py"),
        ("def late():\n    from blocks import SIDE\n    return SIDE\nSIDE = late()", "blocks.py"),
        ("import importlib\nSIDE = importlib.import_module('.blocks', __package__).SIDE", "blocks.py"),
    ],
)
def test_code_that_a_network_imports_is_part_of_its_identity(write: Write, imports: str, helper: str) -> None:
    folder = write(
        {
            "mynet.py": NETWORK.format(imports=imports, side="SIDE"),
            "between.py": "from blocks import SIDE",
            helper: "SIDE = 3",
            "unused.py": "1 / 0",
        }
    )
    entry = entry_of(folder / "mynet.py")
    before = identity(entry)
    assert side_of(entry) == 3
    assert helper in code_digests(entry)
    assert "unused.py" not in code_digests(entry)
    write({helper: "SIDE = 5"})  # of the same size; perhaps within the same tick of the clock
    assert identity(entry) != before
    assert side_of(entry) == 5


def test_file_without_imports_of_its_own_keeps_the_hash_that_it_had_in_earlier_releases(write: Write) -> None:
    entry = entry_of(write({"mynet.py": NETWORK.format(imports="", side=1), "__init__.py": ""}) / "mynet.py")
    assert identity(entry).startswith("mynet-v1-")
    assert [identity(entry).rpartition("-")[2]] == list(code_digests(entry).values())


@pytest.mark.parametrize("imports", ["from models.blocks import SIDE", "from .blocks import SIDE"])
def test_file_in_a_package_imports_as_part_of_it(write: Write, imports: str) -> None:
    network = NETWORK.format(imports=f"{imports}\nfrom utils import SAME", side="SIDE + SAME - SAME")
    package = {"models/__init__.py": "from .mynet import MyNet", "models/mynet.py": network}
    folder = write({**package, "models/blocks.py": "SIDE = 7", "utils.py": "SAME = 1"})
    entry = entry_of(folder / "models" / "mynet.py")
    assert side_of(entry) == 7
    assert set(code_digests(entry)) == {"models/__init__.py", "models/mynet.py", "models/blocks.py", "utils.py"}


def test_file_beside_an_unfinished_package_is_loaded_alone(write: Write) -> None:
    folder = write({"__init__.py": "import no_such_package", "mynet.py": NETWORK.format(imports="", side=1)})
    assert side_of(entry_of(folder / "mynet.py")) == 1


@pytest.mark.parametrize(
    ("package", "init"),
    [
        *(("models", "__init__.py"), ("baselines", "__init__.py"), ("benchmark", "__init__.py")),
        *(("timm", "__init__.py"), ("copy", "__init__.py")),
        # Without __init__.py a folder yields to an installed package, as Python has it, but not to ours.
        *(("models", "parts.py"), ("baselines", "parts.py"), ("benchmark", "parts.py")),
    ],
)
def test_name_in_the_users_folder_is_the_users(write: Write, package: str, init: str) -> None:
    files = {f"{package}/{init}": "", f"{package}/attention.py": "SIDE = 3"}
    network = NETWORK.format(imports=f"from {package}.attention import SIDE", side="SIDE")
    ours = {name: module for name, module in sys.modules.items() if not name.startswith("_benchmark_user_")}
    path = list(sys.path)
    assert side_of(entry_of(write({**files, "mynet.py": network}) / "mynet.py")) == 3
    assert {name: sys.modules.get(name) for name in ours} == ours
    assert sys.path == path
    assert registry.select("contextnet")[0].build() is not None


def test_network_may_build_on_the_shipped_ones_from_beside_an_unrelated_folder(write: Write) -> None:
    network = NETWORK.format(imports="from models.attention import plain_attention", side=1)
    entry = entry_of(write({"mynet.py": network, "models/weights.txt": "", "benchmark/table.csv": ""}) / "mynet.py")
    assert vars(sys.modules[entry.load().__module__])["plain_attention"] is models.attention.plain_attention
    assert list(code_digests(entry)) == ["mynet.py"]


def test_helpers_of_the_same_name_in_two_folders_stay_apart(write: Write) -> None:
    late = "\n    def forward(self, x):\n        import late\n        return x * late.FACTOR\n"
    network = NETWORK.format(imports="from blocks import SIDE", side="SIDE") + late
    folder = write(
        {f"{name}/mynet.py": network for name in "ab"}
        | {"a/blocks.py": "SIDE = 3", "b/blocks.py": "SIDE = 5", "a/late.py": "FACTOR = 2", "b/late.py": "FACTOR = 4"}
    )
    first, second = (entry_of(folder / name / "mynet.py") for name in "ab")
    assert (side_of(first), side_of(second), side_of(first)) == (3, 5, 3)
    assert (first.build()(torch.ones(1)).item(), second.build()(torch.ones(1)).item()) == (2, 4)
    assert "blocks" not in sys.modules


def test_neighbours_are_found_from_any_folder(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"nets/mynet.py": NETWORK.format(imports="import blocks", side="blocks.SIDE"), "nets/blocks.py": "SIDE = 3"}
    folder = write({**files, "elsewhere/x.txt": ""})
    monkeypatch.chdir(folder)
    entry = entry_of(Path("nets/mynet.py"))
    assert side_of(entry) == 3
    monkeypatch.chdir(folder / "elsewhere")
    assert side_of(entry_of(Path("../nets/mynet.py"))) == 3


def test_code_on_the_path_counts_and_code_of_installed_packages_does_not(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    imports = "import ourlab.layers, numpy, json, theirs\nSIDE = ourlab.layers.SIDE"
    folder = write(
        {
            "net/mynet.py": NETWORK.format(imports=imports, side="SIDE"),
            "lab/ourlab/__init__.py": "",
            "lab/ourlab/layers.py": "SIDE = 3",
            "env/site-packages/theirs.py": "",
        }
    )
    monkeypatch.syspath_prepend(str(folder / "lab"))
    monkeypatch.syspath_prepend(str(folder / "env/site-packages"))
    entry = entry_of(folder / "net/mynet.py")
    assert side_of(entry) == 3
    assert list(code_digests(entry)) == ["mynet.py", "ourlab/layers.py"]


def test_code_of_an_entry_point_counts(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an installed package by its version, of an editable one by its files."""
    source = NETWORK.format(imports="", side=1)
    files = {"src/netlab/__init__.py": "from netlab.nets import MyNet", "src/netlab/nets.py": source}
    info = {"METADATA": "Metadata-Version: 2.1\nName: theirs\nVersion: 1.2\n"}
    info["entry_points.txt"] = (
        f"[{code_identity.ENTRY_POINT_GROUP}]\ntheirs = theirs_nets:MyNet\nours = netlab.nets:MyNet\n"
    )
    site = {f"site-packages/theirs-1.2.dist-info/{name}": content for name, content in info.items()}
    folder = write({**files, **site, "site-packages/theirs_nets.py": source})
    for name in ("src", "site-packages"):
        monkeypatch.syspath_prepend(str(folder / name))
    monkeypatch.setattr(code_identity, "installed", lambda: _points(folder / "site-packages"))
    theirs, ours = (registry.select(name)[0] for name in ("theirs", "ours"))
    assert code_digests(theirs) == {"theirs": "1.2"}
    assert set(code_digests(ours)) == {"netlab/__init__.py", "netlab/nets.py"}
    assert ours.build() is not None
    before = identity(ours), identity(theirs)
    write({"src/netlab/nets.py": source + "# edited\n", "site-packages/theirs-1.2.dist-info/METADATA": "Name: theirs\n"
           "Version: 1.3\n"})  # fmt: skip
    assert identity(ours) != before[0]
    assert identity(theirs) != before[1]


def _points(folder: Path) -> tuple[importlib.metadata.EntryPoint, ...]:
    result = importlib.metadata.distributions(path=[str(folder)])
    return tuple(point for distribution in result for point in distribution.entry_points)


def test_bug_in_a_neighbour_is_told_with_file_and_line(write: Write) -> None:
    folder = write({"mynet.py": NETWORK.format(imports="import blocks", side=1), "blocks.py": "\n\n1 / 0"})
    with pytest.raises(UserError, match=r"ZeroDivisionError: division by zero; blocks\.py:3, in <module>\)"):
        entry_of(folder / "mynet.py").load()


def test_missing_neighbour_is_told_with_the_places_that_were_searched(write: Write) -> None:
    entry = entry_of(write({"mynet.py": NETWORK.format(imports="import blokcs", side=1)}) / "mynet.py")
    with pytest.raises(UserError, match=r"No module named 'blokcs'.*looked for beside that file, then among installed"):
        entry.load()


def test_runs_of_changed_code_are_stale_and_the_file_is_named(
    write: Write, tmp_path: Path, small: Protocol, source: Source, cache: Path
) -> None:
    folder = write({"mynet.py": NETWORK.format(imports="import blocks", side=1), "blocks.py": "SIDE = 3"})

    def study() -> Study:
        entries = [entry_of(folder / "mynet.py")]
        task = Task((source,), (source,))
        return Study(tmp_path / "study", small, entries, [task], Hardware("cpu", 1), cache)

    first, second, *_ = make_plan(study()).todo
    done = perform_job(first, lambda *_: None)
    assert isinstance(done, Record)
    assert set(done.environment["network_code"]) == {"mynet.py", "blocks.py"}
    assert first.recorded() == done
    study().store.write_protocol(small)
    write({"blocks.py": "SIDE = 5"})
    with pytest.raises(UserError, match=r"under something else: the code of mynet, changed in blocks\.py\."):
        make_plan(study())
    late = perform_job(second, lambda *_: None)
    assert isinstance(late, Failure)
    assert (late.kind, "blocks.py" in late.message, "has changed since this run was planned" in late.message) == (
        *("bad_input", True, True),
    )


def test_efficiency_figures_of_changed_code_are_not_taken_for_those_of_the_new(tmp_path: Path) -> None:
    (entry,) = registry.select(f"{TINY}:TinyNet")
    fake.write_efficiency(tmp_path, "tinynet")
    record = read(next(tmp_path.glob("efficiency/*.json")))
    assert record is not None
    assert is_of(record, entry)
    assert not is_of(record.model_copy(update={"network_code": "another"}), entry)


def test_plan_reads_the_imports_without_torch(write: Write) -> None:
    file = write({"mynet.py": NETWORK.format(imports="import blocks", side=1), "blocks.py": "SIDE = 3"}) / "mynet.py"
    code = f"print(*code_identity.code_digests(*registry.select('{file}:MyNet')), 'torch' in sys.modules)"
    words = [sys.executable, "-c", f"import sys; from benchmark.config import code_identity, registry; {code}"]
    raised = subprocess.run(words, check=True, capture_output=True, text=True, env=os.environ)
    assert raised.stdout == "blocks.py mynet.py False\n"
