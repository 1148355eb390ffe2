"""Kept weights of a study: which there are, and a network that has them again."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from benchmark.config.protocol import Protocol
from benchmark.config.registry import ModelEntry, identity
from benchmark.records.run_record import Record
from benchmark.records.store import WEIGHTS, BrokenRecordError, Store
from benchmark.utils.errors import UserError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

MOST_NAMED = 5  # tensors, in a message


@dataclass(frozen=True)
class TrainedNetwork:
    """One trained network of a study, not yet read.

    Attributes:
        entry: which network.
        file: its weights.
        record: of the run that trained it.
        protocol: of the study.
    """

    entry: ModelEntry
    file: Path
    record: Record
    protocol: Protocol

    @property
    def label(self) -> str:
        """What the run is called: ``omc-syn/unet/0``."""
        return self.record.label

    @property
    def input_size(self) -> int:
        """Side of the training's inputs, pixels: the smallest of its datasets'."""
        return min(self.protocol.input.size_for(name) for name in self.record.train)

    @property
    def channels(self) -> Literal[1, 3]:
        """Channels that the network takes."""
        return self.protocol.input.channels_for(self.record.train[0])

    def build(self, device: torch.device | str = "cpu") -> nn.Module:
        """Return the network with its weights, in eval mode.

        Raises:
            UserError: the weights cannot be read, are of another network, or no numbers.
        """
        network = self.entry.build(in_channels=self.channels)
        load(network, self.file, read(self.file))
        return network.eval().to(device)


def find(
    folder: Path, entries: Sequence[ModelEntry], train: str | None = None, repeat: int | None = None
) -> list[TrainedNetwork]:
    """Find one trained network of each model.

    Args:
        folder: the study.
        entries: the models.
        train: the training set, such as ``omc-syn`` or ``omc+miic``; ``None`` for the only one.
        repeat: which repeat; ``None`` for the kept one of the lowest validation loss.

    Raises:
        UserError: no such study, a model without weights there, or training sets to choose from.
    """
    store = Store(folder)
    protocol = store.read_protocol()
    if protocol is None:
        raise UserError(
            f"--study {folder.name}: no study in {folder}; expected a folder that `run` made (--results, --study)"
        )
    return [_find(store, protocol, entry, train, repeat) for entry in entries]


def _find(store: Store, protocol: Protocol, entry: ModelEntry, train: str | None, repeat: int | None) -> TrainedNetwork:
    flag = f"--study {store.folder.name}"
    chosen = training_set(store, entry.name, train, flag, "--dataset ")
    files = kept(store, chosen, entry.name, flag)
    if repeat is not None and repeat not in files:
        raise UserError(
            f"--repeat {repeat}: {flag} keeps weights of {entry.name} on {chosen} from repeat "
            f"{', '.join(map(str, sorted(files)))}; name that one, or train with --keep-weights all"
        )
    number = best(store, chosen, entry.name, files) if repeat is None else repeat
    record = store.read_record(chosen.split("+"), entry.name, number)
    if record is None or record.status != "ok":
        raise UserError(f"{files[number].parent}: weights of a run that did not finish; run the study again")
    if (trained := record.key_parts.model) != (now := identity(entry)):
        raise UserError(
            f"{files[number]}: trained as {trained}, but {entry.name} is {now} now, which may compute something else "
            "with these weights; use the code that trained them, or train again with `run --replace-stale`"
        )
    return TrainedNetwork(entry, files[number], record, protocol)


def training_set(store: Store, model: str, wanted: str | None, flag: str, choice: str) -> str:
    """Return the training set that a model's weights are taken from.

    Args:
        store: the study.
        model: the network.
        wanted: the set, or ``None`` for the only one.
        flag: how the study was named, for messages.
        choice: what stands before the name of one of several, in a flag.

    Raises:
        UserError: there is none, not this one, or more than one.
    """
    found = sorted(path.parent.name for path in (store.folder / "runs").glob(f"[!.]*/{model}"))
    where = f"{flag}: {store.folder} has {model} trained on {', '.join(found)}"
    if not found:
        raise UserError(f"{flag}: {store.folder} has no runs of {model}; leave it out of --models")
    if wanted is not None and wanted not in found:
        raise UserError(f"{where}, not on {wanted}")
    if wanted is None and len(found) > 1:
        raise UserError(f"{where}; name one, as in {choice}{found[0]}")
    return wanted or found[0]


def kept(store: Store, train: str, model: str, flag: str) -> dict[int, Path]:
    """Return the weights of a model by repeat.

    Raises:
        UserError: there are none.
    """
    folder = store.folder / "runs" / train / model
    found = {int(file.parent.name): file for file in folder.glob(f"*/{WEIGHTS}") if file.parent.name.isdecimal()}
    if not found:
        raise UserError(
            f"{flag}: no weights in {folder}; train that study with --keep-weights all, or leave {model} out of "
            "--models"
        )
    return found


def best(store: Store, train: str, model: str, repeats: Mapping[int, Path]) -> int:
    """Return the repeat of the lowest validation loss, the first of equals."""

    def loss(repeat: int) -> float:
        try:
            record = store.read_record(train.split("+"), model, repeat)
        except BrokenRecordError:
            record = None
        found = record.training.best_validation_loss if record and record.training else None
        return math.inf if found is None else found

    return min(repeats, key=lambda repeat: (loss(repeat), repeat))


def read(file: Path) -> bytes:
    """Return the content of a file of weights.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return file.read_bytes()
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror}); run the same command again") from error


def load(network: nn.Module, file: Path, content: bytes) -> None:
    """Put weights into a network; nothing but tensors is taken from the content.

    Args:
        network: takes them.
        file: where they come from, for messages.
        content: of the file.

    Raises:
        UserError: no safetensors, of another network, or values that are no numbers.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load as tensors_of

    try:
        found = tensors_of(content)
    except SafetensorError as error:
        raise UserError(f"{file}: no safetensors file ({error}); restore it or train that study again") from error
    if differing := _differences(*(_shapes(state) for state in (network.state_dict(), found))):
        more = f" and {len(differing) - MOST_NAMED} more" if len(differing) > MOST_NAMED else ""
        raise UserError(
            f"{file}: does not fit the network: {'; '.join(differing[:MOST_NAMED])}{more}; "
            "expected a study with the same model and input.channels"
        )
    if unusable := non_finite(found, network):
        more = f" and {len(unusable) - MOST_NAMED} more" if len(unusable) > MOST_NAMED else ""
        raise UserError(
            f"{file}: NaN or infinite values in {', '.join(unusable[:MOST_NAMED])}{more}, which make every prediction "
            "background; expected numbers: restore the file or train that study again"
        )
    network.load_state_dict(found)


def non_finite(state: Mapping[str, Tensor], network: nn.Module) -> list[str]:
    """Return the names of the tensors of a network's state that hold NaN, or infinity where that is no constant.

    A buffer may hold infinity on purpose, such as an attention's mask; parameters and running statistics may not.
    """
    learned = {name for name, _ in network.named_parameters()}
    return [
        name
        for name, value in state.items()
        if value.isnan().any() or ((name in learned or "running_" in name) and value.isinf().any())
    ]


def _shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in state.items()}


def _differences(ours: Mapping[str, tuple[int, ...]], theirs: Mapping[str, tuple[int, ...]]) -> list[str]:
    def shown(shape: tuple[int, ...] | None) -> str:
        return "none" if shape is None else "x".join(map(str, shape)) or "a number"

    return [
        f"{name} is {shown(ours.get(name))} here and {shown(theirs.get(name))} there"
        for name in dict.fromkeys((*ours, *theirs))
        if ours.get(name) != theirs.get(name)
    ]
