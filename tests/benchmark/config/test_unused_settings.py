"""Every setting changes a bit of what a study leaves, or is refused; those that would change nothing are refused."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from benchmark.config import registry, unused_settings
from benchmark.config.protocol import Protocol, load_protocol, setting_paths
from benchmark.data import specs
from benchmark.data.datasets import choose, resolve
from benchmark.data.fingerprint import HashCache
from benchmark.data.tasks import Task
from benchmark.devices.hardware_slots import Hardware
from benchmark.records.run_record import Failure
from benchmark.records.store import WEIGHTS, Store
from benchmark.report.read import read_study
from benchmark.report.tables import accuracy_table
from benchmark.runs.perform import perform_job
from benchmark.study.study import Study
from benchmark.utils.errors import UserError
from tests.benchmark.conftest import TINY, Call, tiny_run
from tests.benchmark.data.folder_makers import save

BASE = (
    *("input.size=32", "input.tile=none", "split.unit=image", "split.near_duplicates=apart", "split.counts=[10,5,5]"),
    *("training.steps=4", "training.validate_every=2", "training.norm_reestimation_batches=0"),
    *("training.mixed_precision=off", "evaluation.min_area_px=2", "evaluation.border_px=2"),
)


@dataclass(frozen=True)
class Case:
    """A change of one setting, and what it must be seen in.

    Attributes:
        value: another one.
        seen: in what a study leaves.
        beside: settings without which it would be hidden; both sides have them.
        data: the dataset.
    """

    value: str
    seen: str = "weights"
    beside: tuple[str, ...] = ()
    data: str = "mychip"


CLDICE = ("loss.name=cldice", "loss.cldice_iterations=3")
DRAWN = ("input.tile=64", "data.standin_images=20")
SEEN = ("weights", "counts", "panels", "training", "record", "computed", "table", "runs", "measurements", "failure")
CASES = {
    "name": Case("other", "table"),
    "seed": Case("1"),
    "repeats": Case("2", "runs"),
    "determinism": Case("deterministic", "record"),
    "split.unit": Case("group", "counts"),
    "split.near_duplicates": Case("together", "counts"),
    "split.validation": Case("0.3", "weights", ("split.counts=none",)),
    "split.test": Case("0.3", "counts", ("split.counts=none",)),
    "split.counts": Case("[9,5,5]"),
    "split.folds": Case("3", "counts", ("split.counts=none",)),
    "split.min_labelled": Case("0.9"),
    "input.size": Case("16"),
    "input.size_by_dataset": Case("{mychip=16}"),
    "input.own_sizes": Case("true", data="sized"),
    "input.tile": Case("64"),
    "input.tile_by_dataset": Case("{mychip=64}"),
    "input.partial_tiles": Case("true"),
    "input.channels": Case("3"),
    "input.channels_by_dataset": Case("{mychip=3}"),
    "training.optimizer": Case("adamw", beside=("training.weight_decay=0.5",)),
    "training.lr": Case("0.5"),
    "training.weight_decay": Case("0.5"),
    "training.crops": Case("block"),
    "training.momentum": Case("0.5", beside=("training.optimizer=sgd",)),
    "training.schedule": Case("cosine"),
    "training.poly_power": Case("2.0", beside=("training.schedule=poly",)),
    "training.warmup": Case("0.9"),
    "training.clip_norm": Case("0.01"),
    "training.ema": Case("0.5"),
    "training.batch": Case("2"),
    "training.micro_batch": Case("1"),
    "training.micro_batch_by_dataset": Case("{mychip=1}"),
    "training.epochs": Case("1", beside=("training.steps=none", "training.epochs=2")),
    "training.steps": Case("3"),
    "training.steps_by_model": Case("{tinynet=3}"),
    "training.lr_by_model": Case("{tinynet=0.1}"),
    "training.validate_every": Case("1", "training"),
    "training.patience": Case("1", "training", ("training.validate_every=1", "training.min_delta=9")),
    "training.min_delta": Case("9"),
    "training.augmentation": Case("flips_turns"),
    "training.mixed_precision": Case("bfloat16", "bfloat16"),
    "training.norm_reestimation_batches": Case("2"),
    "training.encoder_weights": Case("imagenet", "failure"),
    "photometric.gain": Case("0.5"),
    "photometric.gamma": Case("0.5"),
    "photometric.blur": Case("1.5"),
    "photometric.noise": Case("0.2"),
    "photometric.blocks": Case("2.0"),
    "photometric.transforms": Case('["speckle"]'),
    "loss.name": Case("scnp"),
    "loss.bce": Case("0.9"),
    "loss.dice": Case("0.9"),
    "loss.epsilon": Case("9.0"),
    "loss.focal_alpha": Case("0.3", beside=("loss.name=focal",)),
    "loss.focal_gamma": Case("3.0", beside=("loss.name=focal",)),
    "loss.tversky_alpha": Case("0.6", beside=("loss.name=tversky",)),
    "loss.cldice_alpha": Case("0.2", beside=CLDICE),
    "loss.cldice_iterations": Case("1", beside=CLDICE),
    "loss.scnp_inside": Case("lovasz", beside=("loss.name=scnp",)),
    "loss.layer_weights": Case("{via=9}", beside=(*DRAWN, "data.target='track+via'"), data="omc-syn"),
    "evaluation.batch": Case("3", "training"),  # the validation's Dice is one of each batch
    "evaluation.window": Case("tile", "counts", ("input.tile=64",)),
    "evaluation.threshold": Case("0.52", "counts"),
    "evaluation.border_px": Case("9", "counts"),
    "evaluation.min_area_px": Case("30", "counts", ("training.steps=12", "training.lr=0.02")),
    "evaluation.cldice": Case("true", "counts"),
    "data.target": Case("via", beside=DRAWN, data="omc-syn"),
    "data.hy5syn_target": Case("via", beside=DRAWN, data="hy5syn-syn"),
    "data.standin_images": Case("22", beside=DRAWN, data="omc-syn"),
    "data.standin_images_by_dataset": Case(
        "{omc=22}", beside=("input.tile=64", "data.standin_images_by_dataset={omc=20}"), data="omc-syn"
    ),
    "efficiency.budget_seconds": Case("1.5", "measurements"),
    "report.reduction": Case("pooled", "table"),
    "report.panels": Case("1", "panels"),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Colour frames of two by three tiles and a bit, some labelled in part, some that look alike."""
    root = tmp_path_factory.mktemp("unread")
    rng = np.random.default_rng(0)
    for index in range(10):
        mask = np.zeros((134, 200), np.uint8)
        for left in range(4 + index % 5, 190, 12):
            mask[:, left : left + 5] = 255
        noise = rng.normal(0, 25, (*mask.shape, 3))
        image = np.clip(mask[..., None] * np.array([0.5, 0.2, 0.1]) + 60 + noise, 0, 255).astype(np.uint8)
        ignore = np.zeros_like(mask)
        ignore[:, :50] = 255 * (index % 2)
        for name in ("mychip", "sized"):
            save(root / name / "image" / f"{index}.png", image if index < 7 else image * 0 + 90)
            save(root / name / "label" / f"{index}.png", mask)
            save(root / name / "ignore" / f"{index}.png", ignore)
    (root / "sized.toml").write_text("size = 16")
    return root


def left_by(root: Path, data: str, *overrides: str) -> dict[str, str]:
    """Train and test the tiny network under the settings; return a hash of each kind of what the study leaves."""
    protocol = load_protocol("quick", [*BASE, *overrides])
    protocol = specs.fit(protocol, list(choose(data, root).values()))
    (source,) = resolve(data, root, protocol, HashCache(None))
    unused_settings.refuse_for({source.base: source.target}, protocol, overrides, [])
    folder = root / ".studies" / hashlib.sha256(repr((data, overrides)).encode()).hexdigest()[:12]
    study = Study(
        folder, protocol, registry.select([f"{TINY}:TinyNet"]), [Task((source,), (source,))],
        Hardware("cpu", 1), root / ".cache", keep_weights="all",
    )  # fmt: skip
    study.store.write_protocol(protocol)
    jobs = study.jobs()
    outcome = perform_job(jobs[0], lambda *_: None)
    if isinstance(outcome, Failure):
        return dict.fromkeys(SEEN, "") | {"failure": outcome.message}
    run = jobs[0].folder
    record = study.store.read_record((source.name,), "tinynet", 0)
    assert record is not None
    assert record.training is not None
    clock = {"seconds", "images_per_second"}
    return {
        "failure": "",
        "weights": digest((run / WEIGHTS).read_bytes()),
        "counts": digest(b"".join((run / f"images.{test}.csv").read_bytes() for test in source.tests)),
        "panels": digest(b"".join((run / f"panels.{test}.npz").read_bytes() for test in source.tests)),
        "training": record.training.model_dump_json(exclude=clock),
        "record": str(record.environment["determinism"]),
        "computed": str(record.environment["compute_dtype"]),
        "table": str(folder),  # read where it is asked for
        "runs": str(len(jobs)),
        "measurements": str([job.settings for job in study.measurements()]),
    }


def table(folder: str) -> str:
    blocks = accuracy_table.scores(read_study(Path(folder)), accuracy_table.ACCURACY).blocks
    return str([(block.facts, [row.cells for row in block.rows]) for block in blocks])


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(scope="module")
def left(root: Path) -> Callable[..., dict[str, str]]:
    return functools.cache(functools.partial(left_by, root))


def test_every_setting_has_a_case() -> None:
    assert CASES.keys() == set(setting_paths(Protocol))


@pytest.mark.parametrize("path", CASES)
def test_every_setting_changes_what_a_study_leaves(
    left: Callable[..., dict[str, str]], path: str, request: pytest.FixtureRequest
) -> None:
    if path == "photometric.transforms":
        request.getfixturevalue("install_lab")()
    case = CASES[path]
    before = left(case.data, *case.beside)
    after = left(case.data, *case.beside, f"{path}={case.value}")
    if case.seen == "failure":
        assert "has no pretrained encoder" in after["failure"]
    elif case.seen == "bfloat16":  # a CPU may lack it
        assert (before["weights"] != after["weights"]) is (after["computed"] == "bfloat16")
    else:
        assert before["failure"] == after["failure"] == ""
        look = table if case.seen == "table" else str
        assert look(before[case.seen]) != look(after[case.seen])


# Weight decay tells AdamW from Adam. Most of these runs are those of cases above.
CHOICES: list[tuple[str, ...]] = [
    (),
    *((f"loss.name={name}",) for name in ("focal", "tversky", "lovasz", "scnp")),
    CLDICE,
    *((f"training.schedule={name}",) for name in ("cosine", "poly")),
    ("training.optimizer=sgd",),
    ("training.weight_decay=0.5",),
    ("training.weight_decay=0.5", "training.optimizer=adamw"),
]


def test_every_choice_gives_other_weights(left: Callable[..., dict[str, str]]) -> None:
    weights = {choice: left("mychip", *choice)["weights"] for choice in CHOICES}
    assert len(set(weights.values())) == len(CHOICES), weights


HIDDEN = [
    (["training.epochs=5"], "training.epochs=5", "training.steps is 20; change that, or add --set training.steps=none"),
    (["split.test=0.2"], "split.test=0.2", "split.counts is [48, 8, 8]"),
    (
        ["split.counts=none", "split.folds=4", "split.test=0.2"],
        "split.test=0.2",
        "split.folds is 4, and each fold is a",
    ),
    (["training.micro_batch=8"], "training.micro_batch=8", "training.batch, which is 4"),
    (["training.micro_batch_by_dataset.omc=8"], "micro_batch_by_dataset.omc=8", "training.batch, which is 4"),
    (["training.micro_batch_by_dataset={omc=8}"], "micro_batch_by_dataset={omc=8}", "training.batch, which is 4"),
    (["split.counts=[9,0,9]", "training.patience=3"], "training.patience=3", "no validation images"),
    (["input.tile=32"], "input.tile=32", "never smaller than the input, which is 64"),
    (["input.tile_by_dataset.omc=32"], "input.tile_by_dataset.omc=32", "never smaller than the input, which is 64"),
    (
        ["training.momentum=0.8"],
        "training.momentum=0.8",
        "belongs to sgd, and training.optimizer is adam; leave it out",
    ),
    (["training.poly_power=2"], "training.poly_power=2", "belongs to poly, and training.schedule is constant"),
    (["data.target=via", "data.hy5syn_target=via"], "data.hy5syn_target=via", "data.target is via for all datasets"),
    (["loss.dice=0", "loss.epsilon=0.1"], "loss.epsilon=0.1", "loss.dice is 0"),
    (["loss.focal_gamma=3"], "loss.focal_gamma=3", "belongs to the loss focal, and loss.name is bce_dice; leave it"),
    (["loss.name=lovasz", "loss.bce=1"], "loss.bce=1", "belongs to the loss bce_dice, and loss.name is lovasz"),
    (["loss.name=focal", "loss.epsilon=1"], "loss.epsilon=1", "belongs to the loss bce_dice, and loss.name is focal"),
    (["loss.scnp_inside=focal"], "loss.scnp_inside=focal", "belongs to the loss scnp, and loss.name is bce_dice"),
    (
        ["loss.name=scnp", "loss.scnp_inside=focal", "loss.dice=1"],
        "loss.dice=1",
        "belongs to the loss bce_dice, and loss.name is scnp (inside of it focal)",
    ),
]


@pytest.mark.parametrize(("overrides", "setting", "reason"), HIDDEN)
def test_setting_that_another_hides_is_refused(overrides: list[str], setting: str, reason: str) -> None:
    with pytest.raises(UserError) as raised:
        load_protocol("quick", overrides)
    assert f"{setting}'" in str(raised.value)
    assert ": would change nothing, since " in str(raised.value)
    assert reason in str(raised.value)


@pytest.mark.parametrize(
    "overrides",
    [
        ["loss.name=cldice", "loss.epsilon=0.1", "loss.cldice_alpha=0.3"],
        ["loss.name=scnp", "loss.bce=1", "loss.epsilon=0.1"],
        ["loss.name=scnp", "loss.scnp_inside=focal", "loss.focal_gamma=3"],
    ],
)
def test_settings_of_the_chosen_loss_are_accepted(overrides: list[str]) -> None:
    assert load_protocol("quick", overrides) != load_protocol("quick")


def test_setting_is_accepted_once_the_other_that_hides_it_is_unset() -> None:
    assert load_protocol("quick", ["training.epochs=5", "training.steps=none"]).training.epochs == 5
    assert load_protocol("strict", ["training.batch=1"]).training.micro_batch == 2  # the preset's, and nobody's wish


def test_hidden_settings_of_a_file_are_refused_and_those_of_a_stored_study_are_not(tmp_path: Path) -> None:
    text = load_protocol("quick").to_toml()
    file = tmp_path / "protocol.toml"
    file.write_text(text)
    assert load_protocol(file) == load_protocol("quick")
    file.write_text(text.replace("epochs = 30", "epochs = 5"))
    with pytest.raises(UserError, match=r"training\.epochs = 5: would change nothing, since training\.steps is 20"):
        load_protocol(file)
    result = Store(tmp_path).read_protocol()  # as an earlier release may have left it
    assert result is not None
    assert result.training.epochs == 5


@pytest.mark.parametrize(
    "setting", ["split.unit=image", "split.near_duplicates=apart", "split.test=0.2", "split.folds=4"]
)
def test_division_that_the_owner_has_made_hides_others(setting: str) -> None:
    overrides = [setting, "split.counts=none"]
    protocol = load_protocol("quick", overrides)
    unused_settings.refuse_for({"mychip": "track"}, protocol, overrides, [])
    unused_settings.refuse_for(
        {"mychip": "track"}, protocol, overrides, [], protocol, divided=True
    )  # as an earlier call needed it
    with pytest.raises(UserError, match=rf"{setting}'.*comes in train/, val/ and test/.*leave it out"):
        unused_settings.refuse_for({"mychip": "track"}, protocol, overrides, [], divided=True)


def test_units_thin_a_division_that_the_owner_has_made() -> None:
    unused_settings.refuse_for({"mychip": "track"}, load_protocol("quick"), ["split.unit=group"], [], divided=True)


def refuse_for(*overrides: str, source: str | Path = "quick", study: tuple[str, ...] | None = None) -> None:
    protocol = load_protocol(source, overrides)
    stored = None if study is None else load_protocol("quick", study)
    unused_settings.refuse_for({"mychip": "track", "other": "track"}, protocol, overrides, ["omc", "elsewhere"], stored)


TABLES = [(table, 128 if "size" in table or "tile" in table else 3) for table in unused_settings.TABLES]


@pytest.mark.parametrize(("table", "value"), TABLES)
def test_dataset_that_a_study_does_not_have_is_refused_by_name(table: str, value: int) -> None:
    refuse_for(f"{table}.mychip={value}")
    for override in (f"{table}.mychpi={value}", f"{table}={{mychpi={value}}}"):
        with pytest.raises(UserError, match=r"'mychpi' is no dataset of this study; did you mean 'mychip'\?"):
            refuse_for(override)
    with pytest.raises(UserError, match=r"'omc' is no dataset of this study .datasets: mychip, other"):
        refuse_for(f"{table}.omc={value}")
    refuse_for(f"{table}.omc={value}", study=(f"{table}.omc={value}",))  # as an earlier call of the study needed it


def test_file_may_name_datasets_of_other_studies_but_none_that_nobody_has(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text(load_protocol("quick", ["input.size_by_dataset={elsewhere=64}"]).to_toml())
    refuse_for(source=file)
    file.write_text(load_protocol("quick", ["input.size_by_dataset={mychpi=64}"]).to_toml())
    with pytest.raises(UserError, match=r"input\.size_by_dataset\.mychpi = 64: would change nothing"):
        refuse_for(source=file)


def test_size_that_no_dataset_takes_is_refused() -> None:
    sizes = "input.size_by_dataset={mychip=64,other=64}"
    with pytest.raises(UserError, match=r"input\.size=96.*own; use --set input\.size_by_dataset\.mychip=N"):
        refuse_for("input.size=96", sizes)


@pytest.mark.parametrize("weights", ["loss.layer_weights.vai=2", "loss.layer_weights={vai=2}"])
def test_weight_of_a_layer_that_no_target_has_beside_another_is_refused(weights: str, tmp_path: Path) -> None:
    targets = {"mychip": "track+via", "other": "poly"}
    file = tmp_path / "own.toml"
    for given in ([weights], []):
        protocol = load_protocol("quick", [weights])
        file.write_text(protocol.to_toml())
        with pytest.raises(
            UserError, match=r"loss\.layer_weights.*vai.* 'vai' beside another layer; did you mean 'via'"
        ):
            unused_settings.refuse_for(targets, protocol, given, [])
    good = ["loss.layer_weights={track=1, via=2}"]
    unused_settings.refuse_for(targets, load_protocol("quick", good), good, [])
    unused_settings.refuse_for(targets, protocol, [], [], protocol)  # as an earlier call of the study needed it
    for alone, target in (("poly", "poly"), ("track", "track")):
        given = [f"loss.layer_weights.{alone}=2"]
        with pytest.raises(UserError, match=rf"no target of this study has '{alone}' beside another .*: {target}\)"):
            unused_settings.refuse_for({"mychip": target}, load_protocol("quick", given), given, [])


@pytest.mark.parametrize("verb", ["run", "verify", "show"])
def test_command_line_refuses_what_would_change_nothing(call: Call, root: Path, verb: str) -> None:
    change = ["--set", "input.size_by_dataset.omd=64"]
    words = tiny_run(*change) if verb == "run" else ["data", verb, "mychip", "--data-root", root, *change]
    code, _, err = call(*words)
    assert code == 2
    assert "'omd' is no dataset of this study" in err
    assert not Path("results").exists()


@pytest.mark.parametrize("override", ["training.steps_by_model.unt=3", "training.lr_by_model={unt=0.1}"])
def test_settings_of_networks_that_a_call_does_not_train_are_refused(override: str) -> None:
    overrides = [override]
    with pytest.raises(UserError, match=r"by_model.*'unt' is no network of this call.*unet.*correct the name"):
        unused_settings.refuse_for_networks({"unet", "fcn"}, load_protocol("quick", overrides), overrides)
    unused_settings.refuse_for_networks({"unet"}, load_protocol("quick"), [])  # a preset's may name others
