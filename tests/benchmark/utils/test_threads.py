"""Work in other threads: in order, only so far ahead, and without a thread that outlives it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from benchmark.utils.threads import in_order


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) == before


@pytest.mark.parametrize("workers", [1, 3, None])
def test_results_are_in_the_order_of_the_items(workers: int | None) -> None:
    threads = set()

    def square(number: int) -> int:
        threads.add(threading.current_thread())
        return number**2

    assert list(in_order(square, range(50), workers=workers)) == [number**2 for number in range(50)]
    assert threading.main_thread() not in threads
    assert len(threads) <= (workers or 16)


@pytest.mark.parametrize("held", [1, 4])
def test_items_are_taken_no_further_ahead_than_asked(held: int) -> None:
    finished: list[int] = []
    ahead: list[int] = []

    def items() -> Iterator[int]:
        for number in range(20):
            ahead.append(number - len(finished))
            yield number

    assert len(list(in_order(finished.append, items(), workers=1, held=held))) == 20
    assert max(ahead) <= held


def test_next_item_is_worked_on_while_the_caller_has_a_result() -> None:
    begun = [threading.Event() for _ in range(3)]
    results = in_order(lambda number: begun[number].set(), range(3), workers=1, held=1)
    next(results)
    assert begun[1].wait(60)
    assert not begun[2].is_set()
    results.close()
    assert not begun[2].is_set()


@pytest.mark.parametrize("first", [0, 3, 9])
def test_error_of_the_work_takes_the_place_of_its_result(first: int) -> None:
    def work(number: int) -> int:
        if number >= first:
            raise ValueError(f"item {number}")
        return number

    done = list[int]()
    with pytest.raises(ValueError, match=f"item {first}"):
        done.extend(number for number in in_order(work, range(10), workers=1, held=1))
    assert done == list(range(first))


def test_error_of_the_items_ends_it() -> None:
    def items() -> Iterator[int]:
        yield 0
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        list(in_order(str, items(), workers=1, held=1))
