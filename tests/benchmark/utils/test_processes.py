"""Child processes run none of the script that starts them, wherever its code comes from."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from benchmark.utils.processes import SPAWN
from tests.benchmark.conftest import TINY

ROOT = Path(__file__).parents[3]
BEGINS = "print('the script begins', flush=True)\n"

EVERY_KIND = f"""
import contextlib
from pathlib import Path
import gdstk
from benchmark.config import registry
from benchmark.data.layouts import gds
from benchmark.efficiency.measure import measure
from benchmark.executors.local import LocalExecutor
from benchmark.records.efficiency_record import EfficiencySettings
from tests.benchmark.executors.light_jobs import LightJob, do_light

library = gdstk.Library()
library.new_cell("top").add(gdstk.rectangle((0, 0), (1, 2), layer=1))
library.write_gds("chip.gds")
print(len(gds.read(Path("chip.gds"), {{(1, 0): "track"}}).hierarchy.cells), "cell")

settings = EfficiencySettings(warm_up=0, min_iterations=1, min_seconds=0)
(entry,) = registry.select("{TINY}:TinyNet")
record = measure(entry, 16, 16, settings=settings)
print(record.memory.forward_peak_bytes is not None, "memory")

with contextlib.closing(LocalExecutor(perform=do_light).run([LightJob()])) as events:
    print([type(event).__name__ for event in events])
"""

EVERY_METHOD = """
from benchmark.utils.processes import FORKSERVER, SPAWN
for method in (SPAWN, FORKSERVER):
    process = method.Process(target=print, args=("a child",))
    process.start()
    process.join()
    print(process.exitcode)
"""


def run(arguments: list[str], folder: Path, code: str = "") -> list[str]:
    """Run Python and return its lines."""
    done = subprocess.run(
        [sys.executable, *arguments],
        input=code,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow
def test_script_without_a_main_guard_runs_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gdstk", reason="needs gdstk: pip install -e '.[layouts]'")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "script.py").write_text(BEGINS + EVERY_KIND)
    lines = run(["script.py"], tmp_path)
    assert lines == ["the script begins", "1 cell", "True memory", "['Started', 'Step', 'Finished']"]


@pytest.mark.parametrize("way", ["file", "module", "-c", "standard input"])
def test_children_run_none_of_the_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    code = textwrap.dedent(BEGINS + EVERY_METHOD)
    (tmp_path / "script.py").write_text(code)
    arguments = {"file": ["script.py"], "module": ["-m", "script"], "-c": ["-c", code], "standard input": ["-"]}
    assert run(arguments[way], tmp_path, code) == ["the script begins", *["a child", "0"] * 2]


def test_main_module_keeps_its_origin() -> None:
    main = sys.modules["__main__"]
    before = {name: getattr(main, name, None) for name in ("__file__", "__spec__")}
    process = SPAWN.Process(target=print)
    process.start()
    process.join()
    assert {name: getattr(main, name, None) for name in ("__file__", "__spec__")} == before
