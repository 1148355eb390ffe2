"""Names of targets, their layers and tests."""

from __future__ import annotations

import pytest

from benchmark.config import targets
from benchmark.config.protocol import load_protocol
from benchmark.config.targets import checked, dataset_of, is_via, layer_of, layers_of
from benchmark.utils.errors import UserError


def test_layers_are_in_the_order_of_the_logits_and_each_is_a_test() -> None:
    assert layers_of("track") == ("track",)
    assert layers_of("via+track+m-2") == ("via", "track", "m-2")
    assert list(targets.tests_of("omc-syn", "track+via").items()) == [
        ("omc-syn@track", "track"),
        ("omc-syn@via", "via"),
    ]
    assert [(dataset_of(test), layer_of(test)) for test in targets.tests_of("a.b", "x+y")] == [
        ("a.b", "x"),
        ("a.b", "y"),
    ]


def test_single_layer_is_tested_under_the_dataset_s_name() -> None:
    assert targets.tests_of("omv", "via") == {"omv": "via"}
    assert (dataset_of("omv"), layer_of("omv")) == ("omv", None)


@pytest.mark.parametrize(
    ("layer", "expected"), [("via", True), ("via2", True), ("contact", True), ("track", False), ("metal", False)]
)
def test_vias_and_contacts_are_told_by_their_names(layer: str, expected: bool) -> None:
    assert is_via(layer) is expected


@pytest.mark.parametrize("target", ["", "track+", "+via", "Track", "track via", "track@via", "_x", "über", "a/b"])
def test_layer_without_a_plain_name_is_refused(target: str) -> None:
    with pytest.raises(ValueError, match=r"; expected names of a-z, 0-9, _ and - joined by \+"):
        checked(target)


def test_layer_that_comes_twice_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'track\+via\+track' names a layer twice"):
        checked("track+via+track")


def test_target_of_the_settings_holds_for_all_datasets() -> None:
    own = load_protocol("quick").data
    assert (own.target_for("omc", "track"), own.target_for("hy5syn", "track")) == ("track", "metal")
    given = load_protocol("quick", ["data.target=track+via"]).data
    assert {given.target_for(name, "track") for name in ("omc", "hy5syn")} == {"track+via"}
    with pytest.raises(UserError, match=r"data\.target=track\+Via.* 'Via'; expected names of a-z"):
        load_protocol("quick", ["data.target=track+Via"])
