"""The start-up of a command is timed up to its first training step, and a command that fails is named."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmark.runs.train import FIRST_STEP
from benchmark.speedup.loop_share import until_first_step
from benchmark.utils.errors import UserError


def test_first_step_in_the_log_ends_the_timing(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    code = f"import time; open({str(log)!r}, 'w').write({FIRST_STEP!r}); time.sleep(0.2)"
    assert 0 < until_first_step([sys.executable, "-c", code], log) < 60


@pytest.mark.parametrize(
    ("code", "patience_s"),
    [
        pytest.param("import sys; sys.exit('no space left')", 60.0, id="failed"),
        pytest.param(
            "import sys, time; print('no space left', file=sys.stderr, flush=True); time.sleep(60)",
            2.0,
            id="hangs",
            marks=pytest.mark.slow,  # waits
        ),
    ],
)
def test_command_without_a_first_step_is_refused_with_its_messages(
    tmp_path: Path, code: str, patience_s: float
) -> None:
    with pytest.raises(UserError, match=r"no first training step .*no space left"):
        until_first_step([sys.executable, "-c", code], tmp_path / "log.txt", patience_s)
