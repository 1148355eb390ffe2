"""``run --stress`` as a user meets it: a plan, a study with its report, refusals."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.benchmark.conftest import Call, Measured, tiny_run

STRESS = ("--stress", "defocus,noise", "--strength", "1,2")
NO_PANELS = ("--set", "report.panels=0")  # which take more time than the training of a tiny network


@pytest.mark.usefixtures("in_process")
def test_study_is_trained_stressed_and_reported_and_a_second_call_has_nothing_to_do(
    call: Call, measured: Measured, tmp_path: Path
) -> None:
    code, out, _ = call(*tiny_run(*NO_PANELS), *STRESS, "--dry-run")
    assert code == 0
    assert "Stress tests: as drawn, and defocus, noise at 1, 2 times the hardest that is drawn; 5 to do for 1" in out
    assert "stress omc-syn tinynet (after its training): omc-syn as drawn; defocus 1, 2; noise 1, 2" in out
    assert not (tmp_path / "results").exists()
    measured("quick")
    code, out, err = call(*tiny_run(*NO_PANELS), *STRESS)
    assert (code, err) == (0, "")
    assert "omc-syn tinynet repeat 0 stress: tested" in out
    report = tmp_path / "results" / "quick" / "report"
    assert (report / "tables" / "stress.tex").is_file()
    assert (report / "plots" / "omc-syn.stress.png").is_file()
    assert "Stress on omc-syn" in (report / "index.html").read_text()
    code, out, _ = call(*tiny_run(*NO_PANELS), *STRESS, "--dry-run")
    assert code == 0
    assert "noise at 1, 2 times the hardest that is drawn; all done" in out
    (counts,) = (tmp_path / "results" / "quick" / "stress").glob("*/*/*/omc-syn.noise-2.csv")
    counts.write_text("image\n")
    code, out, _ = call("report", "quick", "--check")
    assert (code, "omc-syn.noise-2.csv: " in out) == (1, True)


@pytest.mark.usefixtures("in_process")
def test_failed_test_is_exit_code_1(call: Call, finished: Path) -> None:
    (weights,) = finished.glob("runs/*/*/*/best.safetensors")
    weights.write_bytes(b"nothing")
    code, out, _ = call(*tiny_run(repeats=2), *STRESS)
    assert code == 1
    assert f"omc-syn tinynet repeat {weights.parent.name} stress: failed (bad_input)" in out
    assert "no safetensors file" in out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--stress", "defocuss"), r"--stress 'defocuss': no such stress; .*did you mean 'defocus'\?"),
        (
            ("--stress", "noise,roughness"),
            "--stress roughness: not an effect of omc-syn (omc-syn has clouds, defocus, ",
        ),
        (("--stress", "noise", "--strength", "0"), "--strength '0': expected numbers above 0 and up to 8"),
        (("--stress", "noise", "--strength", "much"), "--strength 'much': expected numbers above 0 and up to 8"),
        (("--stress", "noise", "--strength", "9"), "--strength '9': expected numbers above 0 and up to 8"),
        (("--strength", "1"), "--strength 1: of what? Add effects, such as --stress clouds,noise"),
        (("--stress", "noise", "--keep-weights", "none"), "--stress: tests trained weights, which --keep-weights none"),
    ],
)
def test_wrong_flags_end_with_2_before_anything_starts(
    call: Call, tmp_path: Path, flags: tuple[str, ...], message: str
) -> None:
    code, _, err = call(*tiny_run(), *flags)
    assert code == 2
    pattern = message if ".*" in message else re.escape(message)
    assert re.search(pattern, err), err
    assert not (tmp_path / "results").exists()


def test_help_tells_what_a_strength_is(call: Call) -> None:
    code, out, _ = call("run", "--help")
    text = " ".join(out.replace("│", " ").split())
    assert code == 0
    assert "Factors of the hardest effect in training, for --stress; default: 0.5,1,2" in text
