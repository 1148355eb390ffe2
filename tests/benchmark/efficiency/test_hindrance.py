"""What shows that something else had the device, by clocks and rates that a test sets."""

from __future__ import annotations

import os

import pytest

from benchmark.efficiency.hindrance import TRIES, Waits, hindrances, measure_undisturbed, stolen_s, waited_s
from benchmark.records.efficiency_record import Limits


def limits(macs_per_second: float = 1e11, bytes_per_second: float = 2e10) -> Limits:
    return Limits(
        macs_per_second=macs_per_second, bytes_per_second=bytes_per_second, product_side=512, copied_bytes=1 << 28
    )


def share(before: dict[str, float], after: dict[str, float], stolen: tuple[float, float], threads: int) -> float | None:
    moments, waits, given = iter((10.0, 12.0)), iter((before, after)), iter(stolen)
    watch = Waits(threads, clock=lambda: next(moments), waited=lambda: next(waits), stolen=lambda: next(given))
    return watch.share()


def test_thread_that_waited_longest_counts_and_what_the_host_took() -> None:
    assert share({"1": 5.0, "2": 1.0}, {"1": 5.1, "2": 1.5, "3": 0.2}, (0.0, 0.0), 1) == pytest.approx(0.25)
    assert share({"1": 5.0}, {"1": 5.0}, (7.0, 7.6), 1) == pytest.approx(0.3)
    assert share({"1": 5.0}, {"1": 9.0}, (0.0, 0.0), 1) == 1


def test_no_share_is_told_without_an_account_or_with_more_threads_than_cores() -> None:
    assert share({}, {}, (0.0, 1.0), 1) is None
    assert share({"1": 0.0}, {"1": 2.0}, (0.0, 0.0), (os.cpu_count() or 1) + 1) is None


def test_this_system_is_read_without_an_error() -> None:
    assert all(seconds >= 0 for seconds in waited_s().values())
    assert stolen_s() >= 0


def test_very_first_measurement_has_its_own_two_rates_and_the_processor_s_account() -> None:
    assert hindrances(0.0, limits(), limits(0.6e11)) == ()
    assert hindrances(0.3, limits(), limits()) == ("the processor was taken away for 30% of the time",)
    assert hindrances(None, limits(1e9), limits()) == ("a matrix product just before ran at 1% of the best rate known",)
    assert hindrances(None, limits(), limits(bytes_per_second=5e9)) == (
        "a copy just after ran at 25% of the best rate known",
    )
    assert hindrances(None) == ()
    assert hindrances(None, None, limits()) == ()


def test_earlier_measurements_tell_of_a_device_that_is_slow_before_and_after() -> None:
    slow = limits(0.1e11)
    assert hindrances(0.0, slow, slow) == ()
    assert len(hindrances(0.0, slow, slow, [limits(), limits(0.5e11)])) == 2


def test_hindered_measurement_is_repeated_and_the_good_one_kept() -> None:
    times = iter((90.0, 12.0, 11.0))
    assert measure_undisturbed(lambda: next(times), lambda ms: ms > 50, lambda ms: ms) == (12.0, 2)


def test_of_tries_that_were_all_hindered_the_shortest_counts() -> None:
    times = iter((90.0, 70.0, 80.0, 1.0))
    assert measure_undisturbed(lambda: next(times), lambda ms: True, lambda ms: ms) == (70.0, TRIES)
