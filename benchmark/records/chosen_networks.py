"""Finds the networks of flags: of a study, or of a file of weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.config import code_identity, registry
from benchmark.config.protocol import load_protocol
from benchmark.config.registry import ModelEntry
from benchmark.records.own_networks import select_networks
from benchmark.records.user_folders import find_trained_study
from benchmark.records.weights import (
    TrainedNetwork,
    differences,
    fill_network,
    find_members,
    find_trained,
    network_state,
    read_tensors,
    read_weights,
)
from benchmark.utils.errors import UserError

if TYPE_CHECKING:
    from torch import nn


def chosen_networks(
    results: Path,
    models: str,
    *,
    study: str | None,
    weights: Sequence[Path] | None,
    size: int | None = None,
    train: str | None = None,
    repeat: int | None = None,
    repeats: str | None = None,
    one: bool = False,
) -> tuple[Path, list[TrainedNetwork]]:
    """Return the folder of the study or of the file of weights, and its networks.

    Args:
        results: folder of studies.
        models: networks of the study, or the one of the file.
        study: the value of ``--study``; ``None`` without it.
        weights: the values of ``--weights``; ``None`` without it.
        size: side of the training's inputs, which a file does not tell; ``None`` for the default protocol's.
        train: the training set; ``None`` for a study's only one.
        repeat: which repeat; ``None`` for the best.
        repeats: several repeats of one network, which are all returned; ``None`` for ``repeat`` alone.
        one: refuse several networks.

    Raises:
        UserError: not one of study and file, flags of the other one, no such networks, or weights that do not fit.
    """
    if not weights:
        if study is None:
            raise UserError("--study or --weights: expected the study of a training, or a file of weights")
        if size is not None:
            raise UserError(f"--trained-at {size}: for --weights only; a study knows the size of its inputs")
        folder = find_trained_study(results, study)
        entries = select_networks(folder, models)
        if one and len(entries) > 1:
            raise UserError(
                f"--models {models}: {_named(entries)}; expected one, since results would have the same names: call "
                "predict once for each, with an --out of its own"
            )
        if repeats is None:
            return folder, find_trained(folder, entries, train, repeat)
        if repeat is not None:
            raise UserError(
                f"--repeat {repeat} and --repeats {repeats}: one network, or the mean of several; leave out one"
            )
        return folder, find_members(folder, entries[0], train, repeats)
    file = one_file(weights)
    flags = {"--study": study, "--datasets": train, "--repeat": repeat, "--repeats": repeats}
    if given := [flag for flag, value in flags.items() if value is not None]:
        raise UserError(f"{', '.join(given)}: belongs to a study, not to --weights {file}; leave out one or the other")
    return file.parent, [network_of_file(file, models, size)]


def one_file(weights: Sequence[Path]) -> Path:
    """Return the only file of ``--weights``.

    Raises:
        UserError: several files.
    """
    if len(weights) > 1:
        raise UserError(
            f"--weights {', '.join(map(str, weights))}: {len(weights)} files; expected one, since only repeats of a "
            "study are averaged (predict --study NAME --repeats all)"
        )
    return weights[0]


def network_of_file(file: Path, model: str, size: int | None = None) -> TrainedNetwork:
    """Return a network with weights from elsewhere.

    Its images are gray or RGB, whichever fits the weights. Input size and threshold are those of the protocol
    ``paper``, since the file does not tell them.

    Args:
        file: of weights, see :func:`benchmark.records.weights.read_tensors`.
        model: name of the network.
        size: side of the training's inputs, pixels; by default the protocol's.

    Raises:
        UserError: no such file or model, several models, weights of another network, or an impossible size.
    """
    entries = registry.select(model)
    if len(entries) > 1:
        raise UserError(f"--models {model}: {_named(entries)}; expected the one of {file}")
    if not file.is_file():
        raise UserError(f"--weights {file}: no such file; expected a file of weights")
    (entry,), tensors = entries, read_tensors(file, read_weights(file))
    networks = _by_channels(entry)
    misfits = {channels: len(differences(each, network_state(each, tensors))) for channels, each in networks.items()}
    channels = min(misfits, key=misfits.__getitem__)
    fill_network(networks[channels], file, tensors)  # refuses before any work
    if size is not None and size < 1:
        raise UserError(f"--trained-at {size}: expected the side of the training's inputs, pixels, 1 or more")
    side = size or load_protocol("paper").input.size // entry.multiple * entry.multiple or entry.multiple
    if side % entry.multiple:
        raise UserError(f"--trained-at {size}: {entry.name} takes sizes that are multiples of {entry.multiple}")
    return TrainedNetwork(
        entry, file, None, load_protocol("paper", [f"input.size={side}", f"input.channels={channels}"])
    )


def input_channels(models: str, weights: Path | None, channels: int | None) -> int:
    """Return the input channels for a measurement: those that a file's weights fit, or as asked, or 1.

    Raises:
        UserError: as for :func:`network_of_file`, or other channels are asked for than the weights fit.
    """
    if weights is None:
        return channels or 1
    fitting = network_of_file(weights, models).channels
    if channels not in (None, fitting):
        raise UserError(f"--channels {channels}: --weights {weights} are for {fitting}; leave it out")
    return fitting


def _by_channels(entry: ModelEntry) -> dict[int, nn.Module]:
    """Build a network for gray and for RGB images; many an own network takes only one of them.

    Raises:
        UserError: it takes neither.
    """
    networks: dict[int, nn.Module] = {}
    faults: list[tuple[str, Exception]] = []
    for channels in (1, 3):
        try:
            networks[channels] = entry.build(in_channels=channels)
        except UserError:
            raise
        except Exception as error:  # a user's code raises anything
            faults.append((code_identity.raised(entry, f"__init__ with in_channels={channels}", error), error))
    if not networks:
        raise UserError(faults[0][0]) from faults[0][1]
    return networks


def _named(entries: list[ModelEntry]) -> str:
    return f"{len(entries)} networks ({', '.join(entry.name for entry in entries)})"
