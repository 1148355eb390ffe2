"""What the process does with memory that was freed, seen by the pages that the kernel had to give."""

from __future__ import annotations

import sys

import pytest
import torch

from benchmark.devices.process_memory import keeping_freed_memory
from benchmark.efficiency.memory import in_fresh_process

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="mallopt is glibc's")

BLOCK, TIMES = 40 << 20, 8  # glibc never keeps a block of more than 32 MiB by itself


def new_pages() -> int:
    """Fill a large block again and again; return how many pages were new."""
    import resource

    torch.zeros(BLOCK, dtype=torch.uint8).add_(1)  # the first one is new in any case
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(TIMES):
        torch.empty(BLOCK, dtype=torch.uint8).fill_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def usual_kept_usual() -> tuple[int, int, int, bool]:
    before = new_pages()
    with keeping_freed_memory() as taken:
        kept = new_pages()
    return before, kept, new_pages(), taken


def test_freed_memory_is_kept_for_the_next_use_within_the_context_only() -> None:
    before, kept, after, taken = in_fresh_process(usual_kept_usual)
    assert taken
    whole = TIMES * BLOCK // (2 << 20)  # as few as this where the kernel gives huge pages
    assert before >= whole
    assert after >= whole
    # The heap may have to grow once more: a block of the same size does not fit where the first one lay if something
    # small was put beside it. The unit is a block, since pages are of 4 KiB or 2 MiB by the kernel's setting.
    assert kept <= before / TIMES * 2
