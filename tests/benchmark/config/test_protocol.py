from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from benchmark.cli.list import describe
from benchmark.config.protocol import PRESETS, Protocol, load_protocol, protocol_differences
from benchmark.records.store import Store
from benchmark.utils.errors import UserError


def at(protocol: Protocol, path: str) -> Any:
    result: Any = protocol
    for key in path.split("."):
        result = getattr(result, key)
    return result


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_round_trip_through_toml(preset: str, tmp_path: Path) -> None:
    protocol = load_protocol(preset)
    (tmp_path / "protocol.toml").write_text(protocol.to_toml(), "utf-8")
    again = load_protocol(tmp_path / "protocol.toml")
    assert again == protocol
    assert again.digest() == protocol.digest()
    assert protocol.name == preset


@pytest.mark.parametrize(
    ("preset", "expected"),
    {
        "paper": {
            "repeats": 3, "split.unit": "image", "split.near_duplicates": "apart", "split.validation": 0.1,
            "split.test": 0.1, "split.counts": None,
            "input.size": 512, "input.channels": 1, "training.optimizer": "adam", "training.lr": 1e-3,
            "training.weight_decay": 0.0, "training.schedule": "constant", "training.batch": 1, "training.epochs": 30,
            "training.steps": None, "training.patience": 5, "training.min_delta": 1e-7,
            "training.augmentation": "none", "training.mixed_precision": "off",
            "training.norm_reestimation_batches": 0, "training.encoder_weights": None,
            "loss.bce": 0.5, "loss.dice": 0.5, "loss.epsilon": 1e-6,
            "evaluation.threshold": 0.5, "evaluation.border_px": 35, "evaluation.min_area_px": 35,
            "evaluation.cldice": False,
        },
        "strict": {
            "repeats": 6, "split.unit": "group", "split.near_duplicates": "together",
            "split.validation": 0.1, "split.test": 0.1, "input.size": 512,
            "training.optimizer": "adamw", "training.lr": 1e-3, "training.weight_decay": 1e-2,
            "training.schedule": "cosine", "training.batch": 8, "training.epochs": 60, "training.patience": None,
            "training.augmentation": "flips_turns", "training.mixed_precision": "bfloat16",
            "training.norm_reestimation_batches": 0, "training.encoder_weights": None,
            "loss.bce": 0.5, "loss.dice": 0.5, "loss.epsilon": 1e-6,
            "evaluation.border_px": 35, "evaluation.min_area_px": 35, "evaluation.cldice": True,
        },
        "standins": {
            "repeats": 1, "split.unit": "group", "split.counts": (96, 16, 16), "input.size": 256, "input.tile": 512,
            "input.tile_by_dataset": {"hy5syn": 1024}, "data.standin_images_by_dataset": {"hy5syn": 12},
            "training.batch": 8, "training.steps": 600,
            "evaluation.window": "tile", "evaluation.border_px": 35, "data.standin_images": 128,
        },
        "quick": {
            "repeats": 3, "split.unit": "group", "split.near_duplicates": "together",
            "split.counts": (48, 8, 8), "input.size": 64, "input.tile": 128,
            "training.optimizer": "adam", "training.lr": 2e-3, "training.warmup": 0.1,
            "training.batch": 4, "training.steps": 20,
            "training.validate_every": 20, "training.augmentation": "none", "training.mixed_precision": "bfloat16",
            "evaluation.border_px": 8, "evaluation.min_area_px": 16, "evaluation.cldice": False,
            "data.standin_images": 64, "efficiency.budget_seconds": 1.0,
        },
        "small": {
            "repeats": 3, "split.unit": "group", "split.near_duplicates": "together", "split.counts": None,
            "input.size": 160, "input.own_sizes": False, "input.tile": None, "training.optimizer": "adamw",
            "training.lr": 1e-3, "training.schedule": "cosine", "training.batch": 4, "training.steps": 600,
            "training.augmentation": "flips_turns", "training.mixed_precision": "off", "evaluation.border_px": 16,
            "data.standin_images": 160,
        },
        "open": {
            "repeats": 3, "split.unit": "block", "split.test": 0.25, "split.counts": None, "input.size": 192,
            "input.own_sizes": False, "input.tile": None, "training.optimizer": "adamw", "training.lr": 2e-3,
            "training.schedule": "cosine", "training.batch": 4, "training.steps": 300, "training.steps_by_model": {},
            "training.norm_reestimation_batches": 10,
            "training.crops": "block", "training.augmentation": "flips_turns", "photometric.is_on": True,
            "evaluation.window": "block", "evaluation.border_px": 16,
        },
    }.items(),
)  # fmt: skip
def test_presets_say_what_is_documented(preset: str, expected: dict[str, object]) -> None:
    protocol = load_protocol(preset)
    assert {path: at(protocol, path) for path in expected} == expected


def test_sizes_follow_the_dataset_and_its_standin() -> None:
    paper, quick = load_protocol("paper"), load_protocol("quick")
    assert [paper.input.size_for(name) for name in ("omc", "hy5syn", "hy5syn-syn", "mine")] == [512, 1024, 1024, 512]
    assert [quick.input.size_for("hy5syn"), quick.input.tile_for("hy5syn-syn"), paper.input.tile_for("omc")] == [
        64,
        128,
        512,
    ]
    tiles = load_protocol("standins").input
    assert [tiles.tile_for(name) for name in ("hy5syn-syn", "hy5syn", "miic")] == [1024, 1024, 512]
    assert [paper.data.standin_count(name) for name in ("hy5syn-syn", "omc")] == [40, 400]
    strict = load_protocol("strict").training
    assert [strict.micro_batch_for(name) for name in ("omc", "hy5syn", "hy5syn-syn")] == [2, 1, 1]
    assert paper.training.micro_batch_for("omc") == 1
    assert load_protocol("strict", ["training.batch=1"]).training.micro_batch_for("omc") == 1


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("training.lr=5e-4", "training.lr", 5e-4),
        ("training.lr=1", "training.lr", 1.0),
        ("training.optimizer=adamw", "training.optimizer", "adamw"),
        ('training.optimizer="adamw"', "training.optimizer", "adamw"),
        ("split.counts=[40,4,4]", "split.counts", (40, 4, 4)),
        ("split.counts=none", "split.counts", None),
        ("training.validate_every=NULL", "training.validate_every", None),
        ("training.augmentation=none", "training.augmentation", "none"),
        ("determinism=deterministic", "determinism", "deterministic"),
        (" seed = 7", "seed", 7),
        ("training.encoder_weights=imagenet", "training.encoder_weights", "imagenet"),
        ("input.size_by_dataset.omc=64", "input.size_by_dataset", {"omc": 64}),
        ("input.size_by_dataset={omc=64, mine=32}", "input.size_by_dataset", {"omc": 64, "mine": 32}),
    ],
)
def test_overrides_reach_their_field(override: str, path: str, value: object) -> None:
    protocol = load_protocol("quick", [override])
    assert at(protocol, path) == value
    changed = {path, "training.lr_by_model"} if path == "training.lr" else {path}  # ends the preset's exceptions too
    rest = {p: v for p, v, _ in describe(protocol) if p not in changed}
    assert rest == {p: v for p, v, _ in describe(load_protocol("quick")) if p not in changed}


def test_later_overrides_win_and_entries_of_a_table_can_be_unset() -> None:
    assert load_protocol("quick", ["training.lr=1", "training.lr=2"]).training.lr == 2
    changed = load_protocol("paper", ["input.size_by_dataset.omc=64", "input.size_by_dataset.hy5syn=none"])
    assert changed.input.size_by_dataset == {"omc": 64}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.learning_rat=1", r"no field 'training\.learning_rat'; the nearest is 'training\.lr'"),
        ("trainin.lr=1", r"no field 'trainin'; the nearest is 'training\.lr'"),
        ("lr=1", r"no field 'lr'; the nearest is 'training\.lr'"),
        ("counts=[1,1,1]", r"no field 'counts'; the nearest is 'split\.counts'"),
        ("training=1", r"'training' is a group; expected one of its fields, such as training\.optimizer"),
        ("training.lr.x=1", r"'training\.lr' is a single value and has no fields"),
        ("training.lr", "expected path=value, such as"),
        ("=3", "expected path=value"),
        ("training.lr=fast", r"training\.lr: .*valid number, found 'fast'"),
        ("training.lr=true", r"training\.lr: .*valid number, found True"),
        ('training.batch="4"', r"training\.batch: .*valid integer, found '4'"),
        ("training.batch=2.5", r"training\.batch: .*valid integer, found 2\.5"),
        ("training.batch=none", r"training\.batch: .*valid integer, found 'none'"),
        ("training.lr=nan", r"training\.lr: .*finite number"),
        ("training.optimizer=lion", r"training\.optimizer: .*'adam', 'adamw' or 'sgd', found 'lion'"),
        ("split.counts=[1,2]", r"split\.counts\.2: Field required"),
        ("split.counts=[0,2,2]", "at least one training image"),
        ("split.validation=0.95", "must leave images to train on"),
        ("split.folds=1", r"--set 'split\.folds=1': split\.folds: .*greater than or equal to 2, found 1"),
        ("split.folds=3", r"--set 'split\.folds=3': .*asks for \[48, 8, 8\] images; add --set split\.counts=none"),
        ("input.size=4", r"input\.size: .*greater than or equal to 8, found 4"),
        ("input.size_by_dataset.omc=0", r"input\.size_by_dataset\.omc: .*greater than or equal to 8"),
        ("input.size_by_dataset.omc-syn=64", r"'omc-syn' would never be read: a stand-in follows 'omc'"),
        ("training.micro_batch_by_dataset.omc=0", r"micro_batch_by_dataset\.omc: .*greater than or equal to 1"),
        ("name=a/b", "name: String should match pattern"),
    ],
)
def test_mistakes_name_the_field(override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_protocol("quick", [override])


@pytest.mark.parametrize("overrides", [["training.patience=0"], ["split.validation=0.6", "split.test=0.6"]])
def test_wrong_override_is_blamed_and_not_the_preset(overrides: list[str]) -> None:
    with pytest.raises(UserError, match=" and ".join(f"--set '{override}'" for override in overrides) + ": "):
        load_protocol("paper", overrides)


def test_more_cldice_than_dice_is_refused_as_in_its_paper() -> None:
    with pytest.raises(UserError, match=r"loss\.cldice_alpha.*less than or equal to 0\.5, found 0\.6"):
        load_protocol("quick", ["loss.name=cldice", "loss.cldice_alpha=0.6"])


def test_loss_of_nothing_is_refused() -> None:
    with pytest.raises(UserError, match=r"loss\.bce and loss\.dice are both 0"):
        load_protocol("quick", ["loss.bce=0", "loss.dice=0"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b'name = "x"\n[split]\nunit = "image"\n[training]\nlearning_rate = 1',
            r"no field 'training\.learning_rate'; the nearest",
        ),
        (b'name = "x"\n', "split: Field required"),
        (b"name = ", r"not valid TOML"),
        (b"\xff", "cannot be read"),
        (b"split = 3", r"split: "),
        (
            b'name = "x"\ndeterministic = false\n[split]\nunit = "image"',
            r"no field 'deterministic'; the nearest is 'determ",
        ),
    ],
)
def test_broken_protocol_files_are_refused_by_name(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"mine\.toml.*" + message):
        load_protocol(path)


def test_override_of_a_files_wrong_shape_is_the_users_error(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('name = "x"\nsplit = 3\n', "utf-8")
    with pytest.raises(UserError, match="'split' is a single value"):
        load_protocol(tmp_path / "mine.toml", ["split.unit=image"])


def test_unknown_protocol_suggests_the_nearest() -> None:
    known = r"\(known: paper, strict, small, quick, standins, open"
    with pytest.raises(UserError, match=rf"unknown protocol 'papers'; did you mean 'paper'\? {known}"):
        load_protocol("papers")


def test_protocols_cannot_be_changed() -> None:
    protocol = load_protocol("quick")
    with pytest.raises(ValidationError, match="frozen"):
        protocol.training.lr = 1.0  # type: ignore[misc]


FOLDS = ("split.counts=none", "split.folds=5")


@pytest.mark.parametrize(
    ("overrides", "repeats"), [((), 5), (("repeats=2",), 2), (("repeats=5",), 5), (("split.folds=7",), 7)]
)
def test_folds_are_repeats_unless_their_number_is_typed(overrides: tuple[str, ...], repeats: int) -> None:
    for preset in ("quick", "strict", "standins"):
        assert load_protocol(preset, [*FOLDS, *overrides]).repeats == repeats


def test_folds_of_a_file_are_repeats_unless_the_file_says_how_many(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    text = 'name = "mine"\n[split]\nunit = "image"\nfolds = 4\n'
    file.write_text(text)
    assert load_protocol(file).repeats == 4
    assert load_protocol(file, ["split.folds=none"]).repeats == 3
    file.write_text(f"repeats = 2\n{text}")
    assert load_protocol(file).repeats == 2
    assert load_protocol(file, ["split.folds=6"]).repeats == 6  # the file's number was of other folds
    stored = load_protocol(file)
    (tmp_path / "protocol.toml").write_text(stored.to_toml())
    assert load_protocol(tmp_path / "protocol.toml", stored=True) == load_protocol(tmp_path / "protocol.toml") == stored


def test_more_repeats_than_folds_are_refused() -> None:
    with pytest.raises(UserError, match=r"repeats=6, split\.folds=5: .*ask for 5 repeats at most, or leave"):
        load_protocol("quick", [*FOLDS, "repeats=6"])


def test_blocks_are_no_folds() -> None:
    with pytest.raises(UserError, match=r"split\.unit = block leaves gaps; use --set split\.unit=group or image"):
        load_protocol("quick", [*FOLDS, "split.unit=block"])


def test_share_of_the_test_does_not_limit_validation_beside_folds() -> None:
    assert load_protocol("quick", [*FOLDS, "split.validation=0.95"]).split.validation == 0.95


# Another valid value for every setting that is not among the presets' own differences.
CHANGES = {
    "name": "other", "seed": 1, "repeats": 9, "determinism": "deterministic", "split.unit": "image",
    "split.validation": 0.2, "split.near_duplicates": "apart", "split.test": 0.2, "split.counts": [9, 9, 9],
    "split.folds": 4, "split.min_labelled": 0.5,
    "input.size": 96, "input.size_by_dataset": "{omc=64}", "input.tile_by_dataset": "{omc=256}",
    "input.tile": 192, "input.channels": 3,
    "input.own_sizes": "true", "input.partial_tiles": "true", "input.channels_by_dataset": "{omc=3}",
    "evaluation.window": "tile", "training.optimizer": "adamw", "training.lr": 0.5,
    "photometric.gain": 0.5, "photometric.gamma": 0.5, "photometric.blur": 1.5, "photometric.noise": 0.2,
    "photometric.blocks": 2.0, "photometric.transforms": ["speckle"], "training.momentum": 0.5,
    "training.crops": "block", "training.poly_power": 2, "training.warmup": 0.5,
    "training.clip_norm": 0.5, "training.ema": 0.5, "training.weight_decay": 0.5, "training.schedule": "cosine",
    "training.batch": 2, "training.micro_batch": 1, "training.micro_batch_by_dataset": "{omc=1}",
    "training.epochs": 7, "training.steps": 7, "training.steps_by_model": "{esnet=7,fcn=12,unet=12}",
    "training.lr_by_model": "{hrnet=0.5}",
    "training.validate_every": 7, "training.patience": 7,
    "training.min_delta": 0.5, "training.augmentation": "flips_turns", "training.mixed_precision": "off",
    "training.norm_reestimation_batches": 7, "training.encoder_weights": "imagenet", "loss.bce": 0.7, "loss.dice": 0.7,
    "loss.epsilon": 0.7, "loss.name": "scnp", "loss.focal_alpha": 0.7, "loss.focal_gamma": 3, "loss.tversky_alpha": 0.7,
    "loss.cldice_alpha": 0.4, "loss.cldice_iterations": 7, "loss.scnp_inside": "focal",
    "loss.layer_weights": "{via=2.0}",
    "evaluation.batch": 3, "evaluation.threshold": 0.7, "evaluation.border_px": 7,
    "evaluation.min_area_px": 7, "evaluation.cldice": "true",
    "data.target": "track+via", "data.hy5syn_target": "via", "data.standin_images": 7,
    "data.standin_images_by_dataset": "{omc=7}", "efficiency.budget_seconds": 2.0, "report.reduction": "pooled",
    "report.panels": 7,
}  # fmt: skip


def test_every_setting_is_described_and_has_a_change_to_test() -> None:
    assert {path for path, _, _ in describe(load_protocol("quick"))} == CHANGES.keys()


@pytest.mark.parametrize("path", CHANGES)
def test_digest_follows_every_setting_that_changes_a_number(path: str, install_lab: Callable[..., None]) -> None:
    install_lab()
    hidden = {"split.test": "split.counts", "split.validation": "split.counts", "training.epochs": "training.steps"}
    hidden |= {"split.folds": "split.counts"}
    beside = [f"{hidden[path]}=none"] if path in hidden else []
    if path.startswith("loss.") and "_" in path and path != "loss.layer_weights":
        beside = [f"loss.name={path.removeprefix('loss.').partition('_')[0]}"]
    beside += {"training.momentum": ["training.optimizer=sgd"], "training.poly_power": ["training.schedule=poly"]}.get(
        path, []
    )
    before, after = load_protocol("quick", beside), load_protocol("quick", [*beside, f"{path}={CHANGES[path]}"])
    assert before != after
    ignored = path.split(".")[0] in ("name", "repeats", "efficiency", "report")
    assert (before.digest() == after.digest()) is ignored
    differences = [line for line in protocol_differences(before, after) if not line.startswith("extensions.")]
    if path in ("training.steps", "training.lr"):  # ends the preset's exceptions too
        differences = [line for line in differences if not line.startswith(f"{path}_by_model")]
    assert [line.partition(":")[0].startswith(path) for line in differences] == ([] if ignored else [True])


def test_differences_name_both_values() -> None:
    changed = load_protocol("quick", ["training.lr=0.5", "training.steps=none"])
    assert protocol_differences(load_protocol("quick"), changed) == [
        "training.lr: 0.002 -> 0.5",
        "training.lr_by_model.hrnet: 0.0001 -> none",
        "training.steps: 20 -> none",
        *(
            f"training.steps_by_model.{name}: {steps} -> none"
            for name, steps in (("esnet", 75), ("fcn", 12), ("unet", 12))
        ),
    ]
    assert protocol_differences(load_protocol("paper"), load_protocol("paper", ["input.size_by_dataset.omc=64"])) == [
        "input.size_by_dataset.omc: none -> 64"
    ]


def test_descriptions_show_types_and_unset_values() -> None:
    rows = {path: (value, about) for path, value, about in describe(load_protocol("quick"))}
    assert rows["training.patience"][0] == "none"
    assert rows["split.counts"] == (
        "48, 8, 8",
        "tuple[int, int, int] or none - exact numbers of train, validation and test images instead of shares",
    )
    assert rows["training.optimizer"][1] == "adam|adamw|sgd"
    assert rows["photometric.transforms"][1].startswith("tuple[str, ...] - transforms of installed packages")
    assert rows["loss.name"][1].startswith("bce_dice|focal|tversky|lovasz|cldice or scnp or str - scnp replaces each")
    assert rows["input.size_by_dataset"] == ("none", "dict[str, int] - exceptions to `size`, by dataset")


@pytest.mark.parametrize("override", ["split.test=0", "split.validation=0.2"])
def test_share_that_counts_would_hide_is_refused(override: str) -> None:
    with pytest.raises(UserError, match=rf"{override}.*split\.counts is \[48, 8, 8\].*--set split\.counts=none"):
        load_protocol("quick", [override])
    assert load_protocol("quick", [override, "split.counts=none"]).split.counts is None
    assert load_protocol("paper", [override]) != load_protocol("paper")


@pytest.mark.parametrize(("old", "new"), [("true", "deterministic"), ("false", "seeded")])
def test_study_of_the_first_release_keeps_its_determinism(tmp_path: Path, old: str, new: str) -> None:
    text = load_protocol("quick").to_toml().replace('determinism = "seeded"', f"deterministic = {old}")
    (tmp_path / "protocol.toml").write_text(text)
    result = Store(tmp_path).read_protocol()
    assert result is not None
    assert result.determinism == new


def test_own_steps_and_rates_of_networks_end_where_a_number_for_all_is_typed() -> None:
    preset = load_protocol("quick").training
    assert preset.for_model("hrnet").lr == preset.lr_by_model["hrnet"] < preset.lr == preset.for_model("unet").lr
    assert load_protocol("quick", ["training.lr=0.5"]).training.for_model("hrnet").lr == 0.5
    rates = load_protocol("quick", ["training.lr=0.5", "training.lr_by_model.unet=0.25"]).training
    assert [rates.for_model(name).lr for name in ("unet", "edanet")] == [0.25, 0.5]
    with pytest.raises(UserError, match=r"training\.lr_by_model\.unet=0.*greater than 0"):
        load_protocol("paper", ["training.lr_by_model.unet=0"])
    assert (
        preset.for_model("esnet").steps
        == preset.steps_by_model["esnet"]
        > preset.steps
        == preset.for_model("edanet").steps
    )
    assert load_protocol("quick", ["training.steps=9"]).training.for_model("esnet").steps == 9
    both = load_protocol("quick", ["training.steps=9", "training.steps_by_model.unet=3"]).training
    assert (both.for_model("unet").steps, both.for_model("edanet").steps) == (3, 9)
    with pytest.raises(UserError, match=r"training\.steps is not set.*add --set training\.steps=N"):
        load_protocol("paper", ["training.steps_by_model.unet=3"])
