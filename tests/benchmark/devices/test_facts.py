"""The driver's version, wherever the system tells it."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmark.devices import facts


@pytest.mark.parametrize(
    ("line", "version"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023", "535.104.05"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build  (a@b)", "570.86.15"),
        ("something else", None),
    ],
)
def test_driver_s_version_is_read_from_the_kernel(
    line: str, version: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "read_text", lambda *_: line + "\nGCC version: gcc 12.3.0\n")
    assert facts.driver_version() == version


def test_driver_s_version_is_asked_for_where_the_kernel_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    def hidden(*_: object) -> str:
        raise FileNotFoundError

    class NVMLError(Exception):
        pass

    library = SimpleNamespace(
        NVMLError=NVMLError, nvmlInit=lambda: None, nvmlSystemGetDriverVersion=lambda: "581.29"
    )  # fmt: skip
    monkeypatch.setattr(Path, "read_text", hidden)
    monkeypatch.setitem(sys.modules, "pynvml", library)
    assert facts.driver_version() == "581.29"
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert facts.driver_version() is None
