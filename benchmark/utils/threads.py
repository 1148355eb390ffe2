"""Works on items in other threads and yields the results in order."""

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


def in_order(
    work: Callable[[Item], Result], items: Iterable[Item], *, workers: int | None = None, held: int | None = None
) -> Generator[Result]:
    """Map in parallel and yield in order; few results are held, so that a dataset need not fit in memory.

    The caller's thread takes the items. The threads have ended when the generator has, also by an error of ``work``,
    which is raised in place of the item's result, or of ``items``.

    Args:
        work: called in another thread.
        items: taken no further ahead than ``held`` tells.
        workers: number of threads; by default that of the cores, 16 at most.
        held: items that are worked on or whose results wait while the caller has another; by default two a thread.
    """
    workers = workers or min(os.cpu_count() or 1, MOST_READERS)
    held = 2 * workers if held is None else held
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > held:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
