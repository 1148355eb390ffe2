"""``predict --repeats``: the mean of repeats' probabilities, in the command and in Python, and what is refused."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import benchmark
from benchmark.config import registry
from benchmark.config.protocol import load_protocol
from benchmark.data.datasets import Source
from benchmark.data.tasks import Task
from benchmark.devices.hardware_slots import Hardware
from benchmark.records.store import WEIGHTS
from benchmark.records.weights import find_members
from benchmark.runs.train import train_and_test
from benchmark.study.plan import make_plan
from benchmark.study.study import Study
from tests.benchmark.conftest import SMALL, Call
from tests.benchmark.data.folder_makers import save
from tests.benchmark.predict.conftest import TINYNET, contents, pixels_of


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, source: Source, cache: Path) -> Path:
    """A study ``small`` that keeps the weights of its three repeats."""
    protocol, task = load_protocol("quick", [*SMALL, "repeats=3"]), Task((source,), (source,))
    folder = tmp_path_factory.mktemp("ensemble") / "small"
    study = Study(folder, protocol, registry.select(TINYNET), [task], Hardware("cpu", 1), cache)
    study.keep_weights = "all"
    for job in make_plan(study).todo:
        train_and_test(job, lambda *_: None)
    study.store.write_protocol(study.protocol)
    return folder


@pytest.fixture
def study(trained: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained, tmp_path / "small")


def predict(call: Call, study: Path, *flags: str, out: str = "out") -> tuple[int, str, str]:
    given = ("--study", str(study), "--models", TINYNET, "--device", "cpu", "--out", out)
    return call("predict", "a.png", *given, "--no-overlay", "--no-polygons", "--probability", *flags)


def test_command_and_python_average_the_probabilities_of_all_repeats(
    call: Call, study: Path, frame: np.ndarray, tmp_path: Path
) -> None:
    save(tmp_path / "a.png", frame)
    loaded = benchmark.load(study)
    single = [loaded.network(TINYNET, repeat=n, device="cpu").probability(frame, tile=32) for n in range(3)]
    ensemble = loaded.network(TINYNET, repeats="all", device="cpu")
    mean = ensemble.probability(frame, tile=32)
    np.testing.assert_allclose(mean, np.mean(single, axis=0), rtol=0, atol=1e-6)
    assert repr(ensemble) == "<omc-syn/tinynet/0,1,2 on cpu>"
    code, out, err = predict(call, study, "--repeats", "all", "--tile", "32")
    assert (code, err) == (0, "")
    assert "omc-syn/tinynet/0,1,2: 1 image, tiles of 32 px" in out
    np.testing.assert_array_equal(pixels_of("out/mask/a.png") > 0, mean >= 0.5)
    np.testing.assert_array_equal(pixels_of("out/probability/a.png"), np.rint(mean * 255))
    settings = json.loads(Path("out/manifest/a.json").read_text())["settings"]
    weights = b"".join((study / f"runs/omc-syn/tinynet/{repeat}/{WEIGHTS}").read_bytes() for repeat in range(3))
    expected = ("omc-syn/tinynet/0,1,2", hashlib.sha256(weights).hexdigest())
    assert (settings["network"], settings["weights"]) == expected


def test_one_repeat_is_that_repeat_to_the_bit(call: Call, study: Path, frame: np.ndarray, tmp_path: Path) -> None:
    save(tmp_path / "a.png", frame)
    loaded = benchmark.load(study)
    expected = loaded.network(TINYNET, repeat=1, device="cpu").probability(frame, tile=32)
    one = loaded.network(TINYNET, repeats=[1], device="cpu").probability(frame, tile=32)
    np.testing.assert_array_equal(one, expected)
    assert predict(call, study, "--repeat", "1", out="one")[0] == 0
    assert predict(call, study, "--repeats", "1", out="list")[0] == 0
    assert contents(tmp_path / "one") == contents(tmp_path / "list")


def test_finished_images_of_other_repeats_are_not_taken_for_these(
    call: Call, study: Path, frame: np.ndarray, tmp_path: Path
) -> None:
    save(tmp_path / "a.png", frame)
    assert predict(call, study, "--repeats", "2,0")[0] == 0
    code, out, _ = predict(call, study, "--repeats", "0,2")
    assert (code, "a.png: finished before" in out) == (0, True)
    assert "omc-syn/tinynet/0,2: 1 image, tiles of" in out
    code, _, err = predict(call, study, "--repeats", "all")
    assert code == 2
    assert "network omc-syn/tinynet/0,2 there, omc-syn/tinynet/0,1,2 now" in err


def test_members_come_in_the_order_of_repeats_each_once(study: Path) -> None:
    members = find_members(study, registry.select(TINYNET)[0], None, "2,0,2")
    assert [member.record.repeat for member in members if member.record] == [0, 2]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--repeats", "all"), "--repeats all: --study small keeps no weights of tinynet on omc-syn from repeat 1; "),
        (("--repeats", "all"), "take those that exist (--repeats 0,2), or train another study with `run --keep-weigh"),
        (("--repeats", "0,7"), "from repeat 7; take those that exist"),
        (("--repeats", "some"), "--repeats some: expected all, or numbers of repeats from 0, such as 0,2"),
        (("--repeats", "0,-1"), "--repeats 0,-1: expected all, or numbers"),
        (("--repeats", "all", "--repeat", "0"), "--repeat 0 and --repeats all: one network, or the mean of several"),
    ],
)
def test_choices_that_do_not_work_are_named(
    call: Call, study: Path, tmp_path: Path, frame: np.ndarray, flags: tuple[str, ...], message: str
) -> None:
    save(tmp_path / "a.png", frame)
    (study / f"runs/omc-syn/tinynet/1/{WEIGHTS}").unlink()
    code, _, err = predict(call, study, *flags)
    assert (code, len(err.splitlines())) == (2, 1)
    assert message in err


def test_python_refuses_two_choices_and_several_studies(study: Path, tmp_path: Path) -> None:
    other = shutil.copytree(study, tmp_path / "other")
    with pytest.raises(benchmark.UserError, match="repeat=0 and repeats='all': one network, or the mean of several"):
        benchmark.load(study).network(TINYNET, repeat=0, repeats="all")
    with pytest.raises(benchmark.UserError, match="repeats='all': several studies have such a repeat"):
        benchmark.load(study, other).network(TINYNET, repeats="all")
