"""Results, data and caches from elsewhere: whatever a file holds, nothing of it is run, and nothing else is touched."""

from __future__ import annotations

import ast
import csv
import io
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmark.config import code_identity, registry
from benchmark.config.protocol import Protocol
from benchmark.data import specs
from benchmark.data.datasets import Source
from benchmark.data.packs import open_pack, pack_path
from benchmark.records.run_record import Failure
from benchmark.records.store import CHECKPOINT, RECORD, Store
from benchmark.records.user_folders import study_folder
from benchmark.report import build
from benchmark.report.tables.render import Block, Cell, Column, Row, Table, to_csv, to_markdown
from benchmark.training.checkpoint import Checkpoint
from benchmark.utils import logs
from benchmark.utils.errors import UserError
from benchmark.utils.files import TOML_BYTES
from tests.benchmark.report import fake

ROOT = Path(__file__).parents[2]
#: Calls that run what a file says.
RUNS_CODE = {
    *("eval", "exec", "compile", "pickle.load", "pickle.loads", "pickle.Unpickler", "marshal.load", "marshal.loads"),
    *("shelve.open", "yaml.load", "joblib.load", "pd.read_pickle", "dill.load", "runpy.run_path"),
    *("importlib.import_module", "spec.loader.exec_module"),
}
#: The two places that import what a user names on the command line, and an optional package by a constant name.
ALLOWED = {
    ("registry.py", "importlib.import_module"),
    ("network_files.py", "importlib.import_module"),
    ("nvml.py", "importlib.import_module"),
}


class Payload:
    """What a hostile pickle does when it is loaded."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.file),)


def calls(ends: set[str]) -> Iterator[tuple[str, str, ast.Call]]:
    """Yield the calls of functions whose names end so, since to write all names takes most of the time."""
    for package in ("benchmark", "models", "baselines"):
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_bytes())):
                if isinstance(node, ast.Call) and {getattr(node.func, part, None) for part in ("id", "attr")} & ends:
                    yield file.name, ast.unparse(node.func), node


def test_no_code_unpickles_or_evaluates_what_it_reads() -> None:
    result = list(calls({"load", *(name.rpartition(".")[2] for name in RUNS_CODE)}))
    assert {(file, name) for file, name, _ in result if name in RUNS_CODE} == ALLOWED
    loads = [node for _, name, node in result if name in ("torch.load", "np.load", "numpy.load")]
    assert len(loads) >= 2
    for node in loads:
        arguments = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        safe = arguments.get("weights_only") == "True" or "torch" not in ast.unparse(node.func)
        assert safe, ast.unparse(node)
        assert arguments.get("allow_pickle", "False") == "False", ast.unparse(node)


def test_hostile_checkpoint_runs_nothing(tmp_path: Path) -> None:
    torch.save({"key": "k", "state": {"network": Payload(tmp_path / "ran")}}, tmp_path / CHECKPOINT)
    assert Checkpoint(tmp_path / CHECKPOINT, "k").load() is None
    assert not (tmp_path / "ran").exists()


def test_hostile_pack_runs_nothing(source: Source, small: Protocol, tmp_path: Path) -> None:
    open_pack(source, small, tmp_path)
    folder = pack_path(source, small, tmp_path)
    np.save(folder / "images.npy", np.array([Payload(tmp_path / "ran")], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match="a damaged pack"):
        open_pack(source, small, tmp_path)
    assert not (tmp_path / "ran").exists()


def test_report_imports_no_network_that_a_study_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("evil.py").write_text("from pathlib import Path\nPath('ran').touch()\nclass Net: pass\n")
    study = fake.write_study(tmp_path / "study", ["unet", "evil.net", "antigravity"], ["omc-syn"], repeats=1)
    (study / "report").mkdir()
    (study / "report/custom.json").write_text(json.dumps({"models": "evil.py:Net,unet"}))
    with pytest.raises(UserError, match=r"custom\.json: no longer fits the study"):
        build.build(study, plots=())
    (study / "report/custom.json").write_text(json.dumps({"models": "evil.net,antigravity"}))
    file = study / "runs/omc-syn/unet/0" / RECORD
    file.write_text(file.read_text().replace('"model": "unet"', '"model": "evil.py:Net"'))

    build.build(study, plots=())

    table = (study / "report/tables/accuracy.md").read_text()
    assert "evil.net" in table
    assert "Left out, since their records are broken: omc-syn/unet/0." in table
    assert not Path("ran").exists()
    assert not {"evil", "antigravity"} & set(sys.modules)


@pytest.mark.parametrize("content", [b"a = 1\n" + b"#" * TOML_BYTES, b"a = " + b"[" * 100_000])
@pytest.mark.parametrize("name", ["protocol.toml", "mychip.toml"])
def test_toml_file_that_would_fill_memory_or_stack_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"{name}.*(larger than 1 MiB|not valid TOML)"):
        Store(tmp_path).read_protocol() if name == "protocol.toml" else specs.load(tmp_path / name)


@pytest.mark.parametrize("name", ["../x", "a/b", "..", ".", ".git", "a\\b", "C:", ""])
def test_study_cannot_lie_outside_the_results(name: str) -> None:
    with pytest.raises(UserError, match="expected a plain name"):
        study_folder(Path("results"), name)


@pytest.mark.parametrize("name", ["../x", "a/b", "..", ".git", "a\\b", "C:"])
def test_nor_can_a_dataset(tmp_path: Path, name: str) -> None:
    (tmp_path / "x.toml").write_text(f"name = '{name}'")
    with pytest.raises(UserError, match="name"):
        specs.load(tmp_path / "x.toml")


def test_nor_can_a_packages_network(monkeypatch: pytest.MonkeyPatch) -> None:
    point = code_identity.importlib.metadata.EntryPoint("../net", "package:Net", code_identity.ENTRY_POINT_GROUP)
    monkeypatch.setattr(code_identity, "installed", lambda: (point,))
    with pytest.raises(UserError, match=r"'\.\./net' = 'package:Net': expected a name of letters"):
        registry.models()


@pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="this system cannot refuse links")
def test_log_that_is_a_link_is_neither_written_nor_quoted(tmp_path: Path) -> None:
    target, link = tmp_path / "profile", tmp_path / "log.txt"
    target.write_text("secret\n")
    link.symlink_to(target)
    with logs.to_file(link):
        print("echo pwned")
    assert target.read_text() == "secret\n"
    assert logs.tail(link) == ""


def test_record_that_is_a_link_is_replaced_and_its_target_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("precious")
    folder = fake.write_run(tmp_path / "study", "unet", ["omc"], 0, None)
    record = Store(tmp_path / "study").read_record(("omc",), "unet", 0)
    assert record is not None
    (folder / RECORD).unlink()
    (folder / RECORD).symlink_to(target)
    Store(tmp_path / "study").write_run(record, {}, [], None)
    assert target.read_text() == "precious"
    assert not (folder / RECORD).is_symlink()


HOSTILE = ["=HYPERLINK(1)", "+1", "-1", "@SUM(A1)", "\t=1", "a|b", "a\n| c |", "<script>x</script>", 'a",=1', "**b**"]


def test_no_cell_of_a_csv_table_is_a_formula_and_numbers_stay_numbers() -> None:
    rows = tuple(Row(name, name, "user", {"v": Cell(-0.5)}, remark=name) for name in HOSTILE)
    column = Column("v", "V", higher_is_better=None)
    lines = to_csv(Table("t", "T", (Block("b", "B", {"device": "=1+1"}, (), (column,), rows),)))
    read = list(csv.DictReader(io.StringIO(lines)))
    assert len(read) == len(HOSTILE)
    for line, name in zip(read, HOSTILE, strict=True):
        assert line.pop("mean") == "-0.5"
        assert line["model"] == (f"'{name}" if name[0] in "=+-@\t" else name)
        assert line["device"] == "'=1+1"
        assert not any(cell and cell[0] in "=+-@\t\r" for cell in line.values())


def test_no_name_breaks_out_of_a_markdown_table() -> None:
    rows = tuple(Row(name, name, "user", {"v": Cell(0.5)}, remark=name) for name in HOSTILE)
    column = Column("v", "V", higher_is_better=None)
    text = to_markdown(Table("t", "T", (Block("b", "B", {}, (), (column,), rows),)))
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 3 + len(HOSTILE)
    assert all(line.replace("\\|", "").count("|") == 3 for line in lines)
    assert "<script>" not in text


def test_what_failed_is_quoted_and_not_rendered(tmp_path: Path) -> None:
    fake.write_protocol(tmp_path)
    message = "=cmd() | <b> \\input{/etc/passwd} \x1b[2J\n\n# heading"
    fake.write_run(tmp_path, "unet", ["omc"], 0, None, Failure(kind="error", message=message))
    build.build(tmp_path, plots=())
    tables = tmp_path / "report/tables"
    assert r"\input{/etc" not in (tables / "accuracy.tex").read_text()
    assert "\n# heading" not in (tables / "accuracy.md").read_text()
    assert all("\x1b" not in file.read_text() for file in tables.iterdir())
