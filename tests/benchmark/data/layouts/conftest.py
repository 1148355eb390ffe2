"""One process that reads layout after layout: each would import gdstk anew."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import pytest

from benchmark.data.layouts import gds
from benchmark.utils.processes import SPAWN


@pytest.fixture(autouse=True, scope="package")
def _one_reader() -> Iterator[None]:
    kept: list[tuple[str, ProcessPoolExecutor]] = []  # with the folder in which it was started

    def end() -> None:
        for _, pool in kept:
            pool.shutdown()
        kept.clear()

    @contextlib.contextmanager
    def lasting(*_: object, **__: object) -> Iterator[ProcessPoolExecutor]:
        if kept and kept[0][0] != os.getcwd():
            end()
        if not kept:
            kept.append((os.getcwd(), ProcessPoolExecutor(1, mp_context=SPAWN)))
        pool = kept[0][1]
        try:
            yield pool
        finally:
            try:
                pool.submit(int).result()
            except BrokenProcessPool:  # a test's file has crashed it
                end()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gds, "ProcessPoolExecutor", lasting)
        yield
    end()
