"""Finds the networks of flags: of a study, or of a file of weights."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.config import code_identity, registry
from benchmark.config.protocol import load_protocol
from benchmark.config.registry import ModelEntry
from benchmark.config.targets import JOIN, checked, layers_of
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
from benchmark.utils.words import counted

if TYPE_CHECKING:
    from torch import Tensor, nn

#: With so many logits a file's network is tried, to say how many it has.
MOST_LAYERS = 8


def chosen_networks(
    results: Path,
    models: str,
    *,
    study: str | None,
    weights: Sequence[Path] | None,
    size: int | None = None,
    layers: str | None = None,
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
        layers: names of the layers that the file's network marks, separated by commas; ``None`` for a single one.
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
        if layers is not None:
            raise UserError(f"--layers {layers}: for --weights only; a study knows the layers of its networks")
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
    return file.parent, [network_of_file(file, models, size, layer_names(layers))]


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


def layer_names(text: str | None) -> tuple[str, ...]:
    """Read ``--layers``: names separated by commas; a single one is that of a network of one layer.

    Raises:
        UserError: a name has other characters, or comes twice.
    """
    if text is None:
        return ()
    try:
        return layers_of(checked(JOIN.join(part.strip() for part in text.split(","))))
    except ValueError as error:
        raise UserError(f"--layers {text}: {error}") from error


def network_of_file(file: Path, model: str, size: int | None = None, layers: Sequence[str] = ()) -> TrainedNetwork:
    """Return a network with weights from elsewhere.

    Its images are gray or RGB, whichever fits the weights. Input size and threshold are those of the protocol
    ``paper``, since the file does not tell them.

    Args:
        file: of weights, see :func:`benchmark.records.weights.read_tensors`.
        model: name of the network.
        size: side of the training's inputs, pixels; by default the protocol's.
        layers: that the network marks, in the order of its logits; a single one needs no name.

    Raises:
        UserError: no such file or model, several models, weights of another network, or an impossible size.
    """
    entries = registry.select(model)
    if len(entries) > 1:
        raise UserError(f"--models {model}: {_named(entries)}; expected the one of {file}")
    if not file.is_file():
        raise UserError(f"--weights {file}: no such file; expected a file of weights")
    (entry,), tensors = entries, read_tensors(file, read_weights(file))
    classes = max(1, len(layers))
    networks = _by_channels(entry, classes)
    misfits = _misfits(networks, tensors)
    channels = min(misfits, key=misfits.__getitem__)
    fitting = _fitting_classes(entry, tensors) if misfits[channels] else None
    if fitting is not None:
        raise UserError(
            f"{file}: {counted(fitting, 'logit')}, but --layers names {', '.join(layers) or 'none'}; expected a name "
            f"for each, in their order: {'leave the flag out' if fitting == 1 else 'such as --layers track,via'}"
        )
    fill_network(networks[channels], file, tensors)  # refuses before any work
    if size is not None and size < 1:
        raise UserError(f"--trained-at {size}: expected the side of the training's inputs, pixels, 1 or more")
    side = size or load_protocol("paper").input.size // entry.multiple * entry.multiple or entry.multiple
    if side % entry.multiple:
        raise UserError(f"--trained-at {size}: {entry.name} takes sizes that are multiples of {entry.multiple}")
    protocol = load_protocol("paper", [f"input.size={side}", f"input.channels={channels}"])
    return TrainedNetwork(entry, file, None, protocol, tuple(layers) if classes > 1 else ())


def _misfits(networks: Mapping[int, nn.Module], tensors: Mapping[str, Tensor]) -> dict[int, int]:
    """Return the number of tensors that do not fit each of several networks."""
    return {key: len(differences(each, network_state(each, tensors))) for key, each in networks.items()}


def _fitting_classes(entry: ModelEntry, tensors: Mapping[str, Tensor]) -> int | None:
    """Return the number of logits with which a network has exactly a file's tensors, ``None`` if there is none."""
    for classes in range(1, MOST_LAYERS + 1):
        with contextlib.suppress(UserError):  # an own network may take one number alone
            if 0 in _misfits(_by_channels(entry, classes), tensors).values():
                return classes
    return None


def input_channels(models: str, weights: Path | None, channels: int | None, layers: Sequence[str] = ()) -> int:
    """Return the input channels for a measurement: those that a file's weights fit, or as asked, or 1.

    Raises:
        UserError: as for :func:`network_of_file`, or other channels are asked for than the weights fit.
    """
    if weights is None:
        return channels or 1
    fitting = network_of_file(weights, models, layers=layers).channels
    if channels not in (None, fitting):
        raise UserError(f"--channels {channels}: --weights {weights} are for {fitting}; leave it out")
    return fitting


def _by_channels(entry: ModelEntry, classes: int = 1) -> dict[int, nn.Module]:
    """Build a network for gray and for RGB images; many an own network takes only one of them.

    Raises:
        UserError: it takes neither.
    """
    networks: dict[int, nn.Module] = {}
    faults: list[tuple[str, Exception]] = []
    for channels in (1, 3):
        try:
            networks[channels] = entry.build(in_channels=channels, classes=classes)
        except UserError:
            raise
        except Exception as error:  # a user's code raises anything
            faults.append((code_identity.raised(entry, f"__init__ with in_channels={channels}", error), error))
    if not networks:
        raise UserError(faults[0][0]) from faults[0][1]
    return networks


def _named(entries: list[ModelEntry]) -> str:
    return f"{len(entries)} networks ({', '.join(entry.name for entry in entries)})"
