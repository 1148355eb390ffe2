"""Refuses settings without an effect, such as epochs beside a number of steps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import TYPE_CHECKING, Any

from benchmark.config.targets import JOIN, Target, layers_of
from benchmark.utils.errors import UserError, did_you_mean
from benchmark.utils.files import toml_value

if TYPE_CHECKING:
    from benchmark.config.protocol import Protocol

STEPS, LEARNING_RATES = "training.steps_by_model", "training.lr_by_model"
TABLES = (
    *("input.size_by_dataset", "input.tile_by_dataset", "input.channels_by_dataset"),
    *("training.micro_batch_by_dataset", "data.standin_images_by_dataset"),
)
BY_LAYER = "loss.layer_weights"


def refuse(given: Mapping[str, str], protocol: Protocol) -> None:
    """Refuse settings that have no effect because of another setting.

    Args:
        given: path -> the flag or the line that sets it, such as ``--set 'training.epochs=5'``, for the message;
            settings of presets are left out.
        protocol: all settings.

    Raises:
        UserError: names the first such setting, the cause and the remedy.
    """
    settings, split, training = protocol.input, protocol.split, protocol.training
    reasons: dict[str, str] = {}
    if split.counts is not None:
        counted = (
            f"images are counted: split.counts is {list(split.counts)} (train, validation, test); change that, or add "
            "--set split.counts=none"
        )
        reasons |= dict.fromkeys(("split.test", "split.validation"), counted)
    if split.folds is not None:
        reasons["split.test"] = f"split.folds is {split.folds}, and each fold is a test; leave it out"
    if protocol.data.target is not None:
        reasons["data.hy5syn_target"] = f"data.target is {protocol.data.target} for all datasets; leave it out"
    if (steps := training.steps) is not None:
        reasons["training.epochs"] = f"training.steps is {steps}; change that, or add --set training.steps=none"
    else:
        epochs = "training.steps is not set, so epochs count; add --set training.steps=N"
        reasons |= dict.fromkeys([STEPS, *(f"{STEPS}.{name}" for name in training.steps_by_model)], epochs)
    if training.optimizer != "sgd":
        reasons["training.momentum"] = (
            f"it belongs to sgd, and training.optimizer is {training.optimizer}; leave it out"
        )
    if training.schedule != "poly":
        reasons["training.poly_power"] = (
            f"it belongs to poly, and training.schedule is {training.schedule}; leave it out"
        )
    if not (split.counts[1] if split.counts else split.validation):
        reasons["training.patience"] = "there are no validation images whose loss could stop falling; leave it out"
    forwards = {f"_by_dataset.{name}": images for name, images in training.micro_batch_by_dataset.items()}
    for field, images in {"": training.micro_batch or 0, **forwards}.items():
        if images > training.batch:
            reasons[f"training.micro_batch{field}"] = (
                f"no forward has more images than training.batch, which is {training.batch}"
            )
    smallest = "tiles are never smaller than the input, which is {}; enlarge it"
    if settings.tile is not None and settings.tile < min((settings.size, *settings.size_by_dataset.values())):
        reasons["input.tile"] = smallest.format(settings.size)
    for name, tile in settings.tile_by_dataset.items():
        if tile < settings.size_for(name):
            reasons[f"input.tile_by_dataset.{name}"] = smallest.format(settings.size_for(name))
    _refuse(given, reasons | _of_other_losses(protocol))


def _of_other_losses(protocol: Protocol) -> dict[str, str]:
    """Return why settings of losses that are not computed would change nothing."""
    loss = protocol.loss
    name = f"{loss.name} (inside of it {loss.of_logits})" if loss.name == "scnp" else loss.name
    owners = dict.fromkeys(("bce", "dice", "epsilon"), "bce_dice")
    owners |= {
        field: field.partition("_")[0]
        for field in type(loss).model_fields
        if "_" in field and f"loss.{field}" != BY_LAYER
    }
    if loss.of_logits == "cldice":
        owners["epsilon"] = "cldice"
    reasons = {
        f"loss.{field}": f"it belongs to the loss {owner}, and loss.name is {name}; leave it out"
        for field, owner in owners.items()
        if owner not in (loss.name, loss.of_logits)
    }
    if loss.of_logits == "bce_dice" and loss.dice == 0:
        reasons["loss.epsilon"] = "it belongs to the Dice loss, and loss.dice is 0; leave it out"
    return reasons


def refuse_for(
    datasets: Mapping[str, Target],
    protocol: Protocol,
    overrides: Iterable[str],
    known: Iterable[str],
    study: Protocol | None = None,
    *,
    divided: bool = False,
) -> None:
    """Refuse settings that concern none of the datasets, or none of their layers.

    Args:
        datasets: what networks mark on each of this call's datasets, by its name without the suffix of a stand-in.
        protocol: all settings, including the datasets' own.
        overrides: values of ``--set``.
        known: names of all datasets, since several studies may share a protocol file.
        study: settings of an earlier call; settings for that call's datasets stay valid.
        divided: whether every dataset comes in train, val and test folders.

    Raises:
        UserError: names the first such setting and the remedy.
    """
    given, known, reasons = flags_by_path(overrides), {*known, *datasets}, dict[str, str]()
    if divided and (study is None or study.split != protocol.split):
        reason = "each dataset comes in train/, val/ and test/, which are kept as they are; leave it out"
        fields = ["folds", "validation", "test", "near_duplicates"]
        fields += ["unit"] if protocol.split.counts is None else []
        reasons |= {f"split.{field}": reason for field in fields}
    for table in TABLES:
        field, entries = table.removesuffix("_by_dataset"), _entries_of(protocol, table)
        if study is not None and entries == _entries_of(study, table):
            continue
        for name in entries.keys() - datasets.keys():
            reasons[f"{table}.{name}"] = (
                f"{name!r} is no dataset of this study{did_you_mean(name, sorted(datasets))} (datasets: "
                f"{', '.join(sorted(datasets))}); correct the name or leave it out"
            )
            if name not in known:  # refused in a protocol file too
                given.setdefault(f"{table}.{name}", f"{table}.{name} = {entries[name]}")
        if datasets.keys() <= entries.keys():
            reasons[field] = f"each dataset has its own; use --set {table}.{min(datasets)}=N"
    if study is None or study.loss.layer_weights != protocol.loss.layer_weights:
        several = [layers_of(target) for target in datasets.values() if JOIN in target]
        layers = list(dict.fromkeys(layer for target in several for layer in target))
        for name in protocol.loss.layer_weights.keys() - layers:
            path = f"{BY_LAYER}.{name}"
            reasons[path] = (
                f"no target of this study has {name!r} beside another layer{did_you_mean(name, layers)} (targets: "
                f"{', '.join(dict.fromkeys(datasets.values()))}); correct the name or leave it out"
            )
            given.setdefault(path, f"{path} = {protocol.loss.layer_weights[name]}")
    _refuse(given, reasons)


def refuse_for_networks(networks: Set[str], protocol: Protocol, overrides: Iterable[str]) -> None:
    """Refuse steps and learning rates for networks that a call does not train; a preset's may name others.

    Raises:
        UserError: names the first such setting and the remedy.
    """
    names, training = ", ".join(sorted(networks)), protocol.training
    reasons = {
        f"{table}.{name}": f"{name!r} is no network of this call{did_you_mean(name, sorted(networks))} (networks: "
        f"{names}); correct the name or leave it out"
        for table, own in ((STEPS, training.steps_by_model), (LEARNING_RATES, training.lr_by_model))
        for name in own.keys() - networks
    }
    _refuse(flags_by_path(overrides), reasons)


def flags_by_path(overrides: Iterable[str]) -> dict[str, str]:
    """Return the flag that sets each path, such as ``--set 'training.lr=1'``; entries of a table have own paths."""
    given: dict[str, str] = {}
    for override in overrides:
        path, _, text = (part.strip() for part in override.partition("="))
        value = toml_value(text)
        is_table = path in (*TABLES, BY_LAYER, STEPS, LEARNING_RATES) and isinstance(value, dict)
        names = [f"{path}.{name}" for name in value] if is_table else [path]
        given |= dict.fromkeys(names, f"--set {override!r}")
    return given


def _entries_of(protocol: Protocol, table: str) -> dict[str, Any]:
    group, _, field = table.partition(".")
    entries: dict[str, Any] = getattr(getattr(protocol, group), field)
    return entries


def _refuse(given: Mapping[str, str], reasons: Mapping[str, str]) -> None:
    for path, origin in given.items():
        if path in reasons:
            raise UserError(f"{origin}: would change nothing, since {reasons[path]}")
