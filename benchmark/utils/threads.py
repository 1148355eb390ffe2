"""Reads files in parallel threads and yields the results in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

# Two results wait per reader, 43 MB each for an RGB frame of 4096x3536: about 1.4 GB at most.
MOST_READERS = 16

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(read: Callable[[Item], Result], items: Iterable[Item]) -> Generator[Result]:
    """Map in parallel and yield in order; few results are held, so that a dataset need not fit in memory."""
    workers = min(os.cpu_count() or 1, MOST_READERS)
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(read, item))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
