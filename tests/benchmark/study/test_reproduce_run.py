"""Tests the repetition of a run from its record: refusals, reports, and that a changed bit is found."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmark.config.protocol import Protocol, load_protocol
from benchmark.config.registry import select
from benchmark.devices.hardware_slots import Hardware
from benchmark.records.run_record import Failure, Record
from benchmark.records.store import RECORD, Store, read_record
from benchmark.report.reproduced import Comparison, compare
from benchmark.runs.train import train_and_test
from benchmark.study.execute import execute
from benchmark.study.reproduce_run import Original, build, plan
from benchmark.study.study import Study
from benchmark.utils.errors import UserError
from benchmark.utils.files import write_atomically
from tests.benchmark.conftest import TINY, Call, tiny_run
from tests.benchmark.executors.in_process import InProcessExecutor
from tests.benchmark.study.conftest import Once

MakeStudy = Callable[..., Study]
NAMED = f"{TINY}:TinyNet"


@pytest.fixture
def file(small: Protocol, make_study: MakeStudy, once: Once) -> Path:
    """The record of the second repeat, in a study of its own."""
    study = make_study(small)
    (job,) = [job for job in study.jobs() if job.repeat == 1]

    def train() -> None:
        study.store.write_protocol(small)
        train_and_test(job, lambda *_: None)

    once(study.folder, train)
    return job.folder / RECORD


def change(file: Path, **fields: object) -> None:
    record = read_record(file)
    assert record is not None
    file.write_bytes(record.model_copy(update=fields).to_json())


def prepare(file: Path, cache: Path, folder: Path, **flags: Any) -> tuple[Original, Study]:
    original = Original.read(file)
    given = {"models": NAMED, "datasets": None, "protocol": None, **flags}
    return original, build(original, folder, cache / "no data", cache, Hardware("cpu", 1), **given)


def repeat(file: Path, cache: Path, tmp_path: Path, **flags: Any) -> Comparison:
    original, study = prepare(file, cache, tmp_path / "repeated", **flags)
    execute(study, plan(original, study), InProcessExecutor(train_and_test), lambda _: None)
    return compare(original.record, original.file, original.study, study.folder)


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_same_run_is_identical_and_the_original_stays_as_it_is(file: Path, cache: Path, tmp_path: Path) -> None:
    before = contents(file.parents[4])
    assert Original.read(file.parent) == Original.read(file)
    outcome = repeat(file, cache, tmp_path)
    assert outcome.identical
    assert (outcome.figures, outcome.images, outcome.tested, outcome.notes) == ([], {"omc-syn": 0}, {"omc-syn": 2}, [])
    assert contents(file.parents[4]) == before
    assert [record.repeat for _, record in Store(tmp_path / "repeated").records()] == [1]


def test_repeat_beyond_the_settings_is_planned_alone_with_the_study_s_layouts(
    file: Path, cache: Path, tmp_path: Path
) -> None:
    store = Store(file.parents[4])
    protocol = store.read_protocol()
    assert protocol is not None
    store.write_protocol(protocol.model_copy(update={"repeats": 1}))
    write_atomically(store.layouts_file, b"choices")
    original, study = prepare(file, cache, tmp_path / "repeated")
    assert [job.repeat for job in plan(original, study).todo] == [1]
    assert study.store.layouts_file.read_bytes() == b"choices"


def test_different_metric_is_named(file: Path, cache: Path, tmp_path: Path) -> None:
    record = Original.read(file).record
    real = record.metrics["omc-syn"]["pooled"]["miou"]
    forged = record.model_dump()["metrics"]
    forged["omc-syn"]["pooled"]["miou"] = 0.5
    change(file, metrics=forged)
    outcome = repeat(file, cache, tmp_path)
    assert not outcome.identical
    (figure,) = outcome.figures
    assert (figure.test, figure.reduction, figure.name) == ("omc-syn", "pooled", "miou")
    assert (figure.recorded, figure.now) == (0.5, real)


def test_image_with_other_counts_is_counted(file: Path, cache: Path, tmp_path: Path) -> None:
    counts = file.with_name("images.omc-syn.csv")
    header, first, *rest = counts.read_text().splitlines()
    cells = first.split(",")
    at = header.split(",").index("tp")
    cells[at] = str(int(cells[at]) + 1)
    counts.write_text("\n".join([header, ",".join(cells), *rest]) + "\n")
    outcome = repeat(file, cache, tmp_path)
    assert (outcome.identical, outcome.figures, outcome.images) == (False, [], {"omc-syn": 1})


def test_rounding_of_an_older_release_is_no_difference_with_equal_counts(
    file: Path, cache: Path, tmp_path: Path
) -> None:
    rounded = Original.read(file).record.model_dump()["metrics"]
    rounded["omc-syn"]["image"]["miou"] *= 1 + 2**-52
    change(file, metrics=rounded)
    outcome = repeat(file, cache, tmp_path)
    assert (len(outcome.figures), outcome.identical) == (1, True)
    file.with_name("images.omc-syn.csv").unlink()
    outcome = compare(Original.read(file).record, file, file.parents[4], tmp_path / "repeated")
    assert (outcome.images, outcome.identical) == ({"omc-syn": None}, False)


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("data", "other", r"in the content of its datasets \(recorded other, now \w+\)"),
        ("behaviour", 99, r"in the behaviour number of the harness \(recorded 99, now \d+\); .*made by version 0"),
        ("model", "tinynet-v9-abc", r"in the version of its network \(recorded tinynet-v9-abc, now tinynet-v1-\w+\)"),
        ("protocol", "other", r"under other settings than those of .*protocol\.toml"),
    ],
)
def test_another_run_is_refused(
    file: Path, cache: Path, tmp_path: Path, part: str, value: object, message: str
) -> None:
    change(file, key_parts=Original.read(file).record.key_parts.model_copy(update={part: value}))
    with pytest.raises(UserError, match=message):
        repeat(file, cache, tmp_path)
    assert not (tmp_path / "repeated").exists()


def test_changed_code_or_file_of_the_settings_is_told_before_any_work(
    file: Path, tmp_path: Path, install_lab: Callable[..., None]
) -> None:
    install_lab("1.0")
    weights = tmp_path / "encoder.pth"
    weights.write_bytes(b"one")
    used = load_protocol("quick", ["loss.name=hinge", f"training.encoder_weights={weights}"])
    Store(file.parents[4]).write_protocol(used)
    change(file, key_parts=Original.read(file).record.key_parts.model_copy(update={"protocol": used.digest()}))
    original = Original.read(file)
    assert original.protocol(None) == used
    weights.write_bytes(b"two")
    with pytest.raises(
        UserError, match=r"by now: encoder_weights was \w+ and is \w+ now; .* restore the file; if that"
    ):
        original.protocol(None)
    weights.unlink()
    with pytest.raises(UserError, match=r"encoder\.pth', which cannot be read .* copy of protocol\.toml and give that"):
        original.protocol(None)
    weights.with_name("moved.pth").write_bytes(b"one")
    text = Store(file.parents[4]).protocol_file.read_text().replace("encoder.pth", "moved.pth")
    (tmp_path / "copy.toml").write_text(text)
    assert original.protocol(str(tmp_path / "copy.toml")).digest() == used.digest()
    install_lab("1.1")
    with pytest.raises(UserError, match=r"losses\.hinge was lab 1\.0 and is lab 1\.1 now; install the recorded"):
        original.protocol(str(tmp_path / "copy.toml"))


def test_edited_network_is_repeated_and_reported(file: Path, cache: Path, tmp_path: Path) -> None:
    edited = tmp_path / "edited.py"
    edited.write_text(TINY.read_text("utf-8") + "\n# a comment\n", "utf-8")
    outcome = repeat(file, cache, tmp_path, models=f"{edited}:TinyNet")
    assert outcome.identical
    note, *files = outcome.notes
    assert re.fullmatch(r"the network's code: tinynet-v1-(\w+) \| tinynet-v1-(?!\1)\w+", note)
    assert [file.partition(":")[0] for file in files] == ["network_code.edited.py", "network_code.tiny.py"]


def test_another_environment_is_reported(file: Path, cache: Path, tmp_path: Path) -> None:
    facts = Original.read(file).record.environment
    change(file, environment={**facts, "threads": 64, "packages": {**facts["packages"], "torch": "2.8.0"}})
    shutil.rmtree(file.parents[4] / "environment")  # the list of packages is not needed
    outcome = repeat(file, cache, tmp_path)
    assert outcome.identical
    assert outcome.notes == [f"packages.torch: 2.8.0 | {facts['packages']['torch']}", "threads: 64 | 1"]


@pytest.mark.parametrize(
    ("models", "message"),
    [
        (None, "--reproduce .*does not say where this network's code lies.*path/to/file.py:Class, with --models"),
        ("tinynet", "unknown model 'tinynet'"),
        ("unet", "expected the one network of the record, 'tinynet'"),
        ("unet,fcn", "expected the one network of the record, 'tinynet'"),
    ],
)
def test_another_network_than_the_record_s_is_refused(
    file: Path, cache: Path, tmp_path: Path, models: str | None, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        prepare(file, cache, tmp_path / "x", models=models)


def test_own_network_is_found_by_its_study_and_one_run_is_expected(file: Path, cache: Path, tmp_path: Path) -> None:
    networks = {"tinynet": {"target": f"{os.path.relpath(TINY, file.parents[4])}:TinyNet"}}
    (file.parents[4] / "networks.json").write_text(json.dumps(networks), "utf-8")
    original, study = prepare(file, cache, tmp_path / "x", models=None)
    assert study.models[0].load().__name__ == "TinyNet"
    whole = plan(original, study)
    assert (list(whole.expected.jobs), whole.expected.report) == ([whole.todo[0].label], 0.0)


def test_real_data_are_not_replaced_by_a_stand_in(file: Path, cache: Path, tmp_path: Path) -> None:
    change(file, train=("omc",), test=("omc",))
    with pytest.raises(UserError, match=r"needs omc, found omc-syn; .*--data-root"):
        prepare(file, cache, tmp_path / "x")


def test_unrepeatable_run_is_refused(file: Path, cache: Path, tmp_path: Path) -> None:
    original, study = prepare(file, cache, file.parents[4])
    with pytest.raises(UserError, match="holds the original"):
        plan(original, study)
    repeat(file, cache, tmp_path)
    with pytest.raises(UserError, match="holds that run already"):
        repeat(file, cache, tmp_path)
    with pytest.raises(UserError, match="no such file"):
        Original.read(tmp_path / RECORD)
    change(file, status="failed", failure=Failure(kind="nan_loss", message="NaN"))
    with pytest.raises(UserError, match=r"has no numbers \(failed, nan_loss\)"):
        Original.read(file)


@pytest.mark.parametrize(
    ("environment", "device", "threads"),
    [({"device": "cpu", "threads": 3}, "cpu", 3), ({"device": "cuda:5", "threads": 4}, "auto", 4), ({}, "auto", None)],
)
def test_device_and_threads_are_the_record_s_unless_named(
    file: Path, environment: dict[str, object], device: str, threads: int | None
) -> None:
    change(file, environment=environment)
    original = Original.read(file)
    assert (original.device, original.threads) == (device, threads)


@pytest.mark.parametrize(
    ("environment", "kind", "expected"),
    [
        ({"device": "cuda:1", "execution": "graph"}, "cuda", "graph"),
        ({"device": "cuda:0", "execution": "eager", "execution_reason": "it waits"}, "cuda", "eager"),
        ({"device": "cpu", "execution": "compile"}, "cpu", "compile"),
        ({"device": "cuda:0"}, "cuda", "eager"),  # of an earlier release
        ({"device": "cuda:0", "execution": "graph"}, "cpu", "auto"),
        ({}, "cuda", "auto"),
    ],
)
def test_run_is_executed_as_it_was_on_a_device_of_its_kind(
    file: Path, cache: Path, tmp_path: Path, environment: dict[str, object], kind: str, expected: str
) -> None:
    change(file, environment=environment)
    hardware = Hardware("cpu" if kind == "cpu" else "cuda:0", 1)
    given = {"models": NAMED, "datasets": None, "protocol": None}
    original = Original.read(file)
    assert original.execution(kind) == expected
    study = build(original, tmp_path / "x", cache / "no data", cache, hardware, **given)
    assert study.execution == expected
    study = build(original, tmp_path / "x", cache / "no data", cache, hardware, **given, execution="eager")
    assert study.execution == "eager"


def test_one_run_is_not_divided_among_gpus(file: Path, cache: Path, tmp_path: Path) -> None:
    original = Original.read(file)
    gpus = Hardware("cuda:0", 16, gpus=("cuda:0", "cuda:1"))
    study = build(original, tmp_path / "x", cache / "no data", cache, gpus, models=NAMED, datasets=None, protocol=None)
    assert (study.hardware.slots, study.hardware.threads_each) == (("cuda:0",), 16)
    assert study.models == select(NAMED)


@pytest.mark.slow
def test_joint_training_is_repeated_from_the_command_line(call: Call, tmp_path: Path) -> None:
    words = tiny_run()
    at = words.index("--datasets")
    crossed = [*words[:at], "--train", "omc-syn,miic-syn", "--test", "hy5syn-syn,omc-syn", *words[at + 2 :]]
    code, out, err = call(*crossed)
    assert code == 0, out + err
    file = Path("results/quick/runs/omc-syn+miic-syn/tinynet/0", RECORD)

    code, out, err = call("run", "--reproduce", file, "--models", NAMED)
    assert code == 0, out + err
    assert "omc-syn+miic-syn tinynet repeat 0: identical\n" in out
    assert "  hy5syn-syn: 0 of 2 images with other counts\n" in out
    assert re.search(r"  0 of \d\d metrics differ\n", out)
    assert [path.name for path in Path("results").iterdir()] == ["quick"]

    # A record alone, with a metric by hand.
    Path("alone").mkdir()
    text, changes = re.subn(r'("dice": )0\.\d+', r"\g<1>0.125", file.read_text(), count=1)
    assert changes == 1
    Path("alone", RECORD).write_text(text)
    code, _, err = call("run", "--reproduce", Path("alone", RECORD), "--models", NAMED)
    assert (code, "no protocol.toml in its study's folder; name it with --protocol" in err) == (2, True)
    flags = ["--models", NAMED, "--protocol", "results/quick/protocol.toml", "--study", "again"]
    code, out, err = call("run", "--reproduce", Path("alone", RECORD), *flags)
    assert code == 1, out + err
    assert "repeat 0: different\n" in out
    assert "no counts beside the record" in out
    assert re.search(r"1 of \d\d metrics differ\n", out)
    assert re.search(r"\w+-syn +image +dice +0\.125 +0\.\d+ +[+-]0\.\d+", out)
    assert call("diff", "quick", "again")[0] == 0

    code, _, err = call("run", "--reproduce", file, "--models", NAMED, "--repeats", "2", "--set", "training.lr=1.0")
    assert (code, "--repeats, --set: does not go with --reproduce" in err) == (2, True)


@pytest.mark.slow
def test_run_that_fails_this_time_is_a_difference(call: Call, file: Path, small: Protocol, tmp_path: Path) -> None:
    record = Original.read(file).record
    assert isinstance(record, Record)
    broken = tmp_path / "broken.py"
    broken.write_text(TINY.read_text("utf-8").replace("return logits", "return logits * torch.nan", 1), "utf-8")
    code, out, _ = call("run", "--reproduce", file, "--models", f"{broken}:TinyNet")
    assert code == 1
    assert "nan_loss" in out
