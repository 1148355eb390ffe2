"""Reads files of weights, finds those of a study and builds networks with them."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from benchmark.config.code_identity import change, identity
from benchmark.config.protocol import Protocol
from benchmark.config.registry import ModelEntry
from benchmark.config.targets import dataset_of, layer_of
from benchmark.records.packed_study import model_folders
from benchmark.records.run_record import Record
from benchmark.records.store import Store
from benchmark.utils.errors import UserError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

MOST_NAMED = 5  # tensors, in a message
SAFETENSORS = ".safetensors"
WRAPPERS = ("module.", "_orig_mod.")  # before the names of tensors, by DataParallel and torch.compile


@dataclass(frozen=True)
class TrainedNetwork:
    """One trained network of a study, or of a file of weights from elsewhere."""

    entry: ModelEntry
    file: Path  # of the weights, not read yet
    record: Record | None  # of the run that trained it; None for a file from elsewhere
    protocol: Protocol  # of the study
    named: tuple[str, ...] = ()  # layers of a file from elsewhere, in the order of its logits; none for a single layer

    @property
    def label(self) -> str:
        """Label of the run: ``omc-syn/unet/0``; of a file from elsewhere ``unet/lab``."""
        return self.record.label if self.record else f"{self.entry.name}/{self.file.stem}"

    @property
    def train(self) -> tuple[str, ...]:
        """Training datasets, none if they are not known."""
        return self.record.train if self.record else ()

    @property
    def input_size(self) -> int:
        """Side of the training's inputs in pixels, the smallest of its datasets."""
        return min(map(self.protocol.input.size_for, self.train), default=self.protocol.input.size)

    @property
    def channels(self) -> Literal[1, 3]:
        """Input channels of the network."""
        return self.protocol.input.channels_for(self.train[0]) if self.train else self.protocol.input.channels

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers that the network marks, in the order of its logits; none for a single layer."""
        if self.record is None:
            return self.named
        tests = self.record.test
        layers = (layer_of(test) for test in tests if dataset_of(test) == dataset_of(tests[0]))
        return tuple(layer for layer in layers if layer)

    def build(self, device: torch.device | str = "cpu") -> nn.Module:
        """Return the network with its weights, in eval mode.

        Raises:
            UserError: the weights cannot be read, belong to another network, or are NaN or infinite.
        """
        network = self.entry.build(in_channels=self.channels, classes=max(1, len(self.layers)))
        load_weights(network, self.file, read_weights(self.file))
        return network.eval().to(device)


def find_trained(
    folder: Path, entries: Sequence[ModelEntry], train: str | None = None, repeat: int | None = None
) -> list[TrainedNetwork]:
    """Find one trained network of each model.

    Args:
        folder: the study.
        entries: the models.
        train: the training set, such as ``omc-syn`` or ``omc+miic``; ``None`` if there is only one.
        repeat: which repeat; ``None`` for the kept one with the lowest validation loss.

    Raises:
        UserError: no such study, a model without weights, or several training sets and no choice.
    """
    store, protocol = _study(folder)
    networks = []
    for entry in entries:
        of_train, files = kept_weights(store, entry.name, train, _flag(store), "--datasets ")
        if repeat is not None and repeat not in files:
            raise UserError(
                f"--repeat {repeat}: {_flag(store)} keeps weights of {entry.name} on {of_train} from repeat "
                f"{', '.join(map(str, sorted(files)))}; name that one, or train with --keep-weights all"
            )
        chosen = best_repeat(store, of_train, entry.name, files) if repeat is None else repeat
        networks.append(_trained(store, protocol, entry, of_train, files[chosen]))
    return networks


def find_members(folder: Path, entry: ModelEntry, train: str | None, repeats: str) -> list[TrainedNetwork]:
    """Find the trained networks of several repeats of a model, in the order of repeats.

    Args:
        folder: the study.
        entry: the model.
        train: as for :func:`find_trained`.
        repeats: ``all``, or numbers such as ``0,2``.

    Raises:
        UserError: as :func:`find_trained`, no such choice, or a repeat without kept weights.
    """
    store, protocol = _study(folder)
    train, files = kept_weights(store, entry.name, train, _flag(store), "--datasets ")
    numbers = [part.strip() for part in repeats.split(",")]
    if repeats == "all":
        chosen = {*range(protocol.repeats), *files}
    elif all(number.isdecimal() for number in numbers):
        chosen = set(map(int, numbers))
    else:
        raise UserError(f"--repeats {repeats}: expected all, or numbers of repeats from 0, such as 0,2")
    if missing := sorted(chosen - files.keys()):
        kept = ",".join(map(str, sorted(files)))
        raise UserError(
            f"--repeats {repeats}: {_flag(store)} keeps no weights of {entry.name} on {train} from repeat "
            f"{', '.join(map(str, missing))}; take those that exist (--repeats {kept}), or train another study with "
            "`run --keep-weights all`"
        )
    return [_trained(store, protocol, entry, train, files[repeat]) for repeat in sorted(chosen)]


def label_of(members: Sequence[TrainedNetwork]) -> str:
    """Return the label of a network, or of an ensemble of its repeats: ``omc-syn/unet/0,2``."""
    first, *others = members
    return ",".join((first.label, *(str(member.record.repeat) for member in others if member.record)))


def _study(folder: Path) -> tuple[Store, Protocol]:
    store = Store(folder)
    protocol = store.read_protocol()
    if protocol is None:
        raise UserError(
            f"--study {folder.name}: no study in {folder}; expected a folder that `run` made (--results, --study)"
        )
    return store, protocol


def _flag(store: Store) -> str:
    return f"--study {store.folder.name}"


def _trained(store: Store, protocol: Protocol, entry: ModelEntry, train: str, file: Path) -> TrainedNetwork:
    """Return the network of a kept file of weights, which its run must have finished with today's code."""
    record = store.read_record(train.split("+"), entry.name, int(file.parent.name))
    if record is None or record.status != "ok":
        raise UserError(f"{file.parent}: weights of a run that did not finish; run the study again")
    if (trained := record.key_parts.model) != (now := identity(entry)):
        raise UserError(
            f"{file}: trained as {trained}, but {entry.name} is {now} now"
            f"{change(entry, record.environment.get('network_code'))}: it may compute something else with these "
            "weights; use the code that trained them, or train again with `run --replace-stale`"
        )
    return TrainedNetwork(entry, file, record, protocol)


def kept_weights(store: Store, model: str, train: str | None, flag: str, choice: str) -> tuple[str, dict[int, Path]]:
    """Return a training set of a model (``None``: the only one) and its files of weights by repeat.

    In messages, ``flag`` names the study and ``choice`` begins the flag that names a training set.

    Raises:
        UserError: no runs, no weights, another training set, or several and no choice.
    """
    sets = sorted(path.parent.name for path in model_folders(store.folder, f"[!.]*/{model}"))
    message = f"{flag}: {store.folder} has {model} trained on {', '.join(sets)}"
    if not sets:
        raise UserError(f"{flag}: {store.folder} has no runs of {model}; leave it out of --models")
    if train is not None and train not in sets:
        raise UserError(f"{message}, not on {train}")
    if train is None and len(sets) > 1:
        raise UserError(f"{message}; name one, as in {choice}{sets[0]}")
    train = train or sets[0]
    if not (files := store.kept_weights(train, model)):
        raise UserError(
            f"{flag}: no weights in {store.folder / 'runs' / train / model}; train that study with --keep-weights "
            f"all, or leave {model} out of --models"
        )
    return train, files


def best_repeat(store: Store, train: str, model: str, repeats: Iterable[int]) -> int:
    """Return the repeat of the lowest validation loss, the first of equals."""
    losses = store.validation_losses(train, model)
    return min(repeats, key=lambda repeat: (losses.get(repeat, math.inf), repeat))


def read_weights(file: Path) -> bytes:
    """Return the content of a file of weights.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return file.read_bytes()
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror}); run the same command again") from error


def load_weights(network: nn.Module, file: Path, content: bytes) -> None:
    """Put the tensors of a file's content into a network, all of them; ``file`` names it in messages.

    Raises:
        UserError: no weights that are safe to read, tensors of another network, NaN or infinite values.
    """
    fill_network(network, file, read_tensors(file, content))


def fill_network(network: nn.Module, file: Path, tensors: Mapping[str, Tensor]) -> None:
    """Put a file's tensors into a network, all of them; ``file`` names it in messages.

    Raises:
        UserError: tensors of another network or of another kind, NaN or infinite values.
    """
    state = network_state(network, tensors)
    if unfit := _unfit(network, state):
        raise UserError(
            f"{file}: {_some(unfit, ', ')}; expected dense tensors of float16, bfloat16, float32 or float64 for "
            "weights: convert them and save the file again"
        )
    if differing := differences(network, state):
        raise UserError(
            f"{file}: does not fit the network: {_some(differing, '; ')}; "
            "expected weights of the same model and input.channels"
        )
    ours = network.state_dict()
    state = {name: value.to(ours[name].dtype) for name, value in state.items()}  # a float64 may exceed float32
    if unusable := non_finite(state, network):
        raise UserError(
            f"{file}: NaN or infinite values in {_some(unusable, ', ')}, which make every prediction "
            "background; expected numbers: restore the file or train that study again"
        )
    network.load_state_dict(state)


def read_tensors(file: Path, content: bytes) -> dict[str, Tensor]:
    """Return the tensors of a file of safetensors, or of a ``state_dict`` as ``torch.save`` writes it.

    Raises:
        UserError: another format, or more than a ``state_dict``.
    """
    by_safetensors = file.suffix == SAFETENSORS or content[8:9] == b"{"  # after the header's length
    return _safetensors(file, content) if by_safetensors else _state_dict(file, content)


def network_state(network: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a file's tensors under the network's names, without prefixes of a wrapper around the network."""
    state, ours = dict(tensors), network.state_dict().keys()
    while state and not state.keys() <= ours:
        wrapper = next((name for name in WRAPPERS if all(key.startswith(name) for key in state)), None)
        if wrapper is None:
            break
        state = {key.removeprefix(wrapper): value for key, value in state.items()}
    return state


def differences(network: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    """Return each tensor that a network and a state do not have in the same size, in words."""
    ours, theirs = (
        {name: _size(value) for name, value in tensors.items()} for tensors in (network.state_dict(), state)
    )
    return [
        f"{name} is {ours.get(name, 'none')} here and {theirs.get(name, 'none')} there"
        for name in dict.fromkeys((*ours, *theirs))
        if ours.get(name) != theirs.get(name)
    ]


def _safetensors(file: Path, content: bytes) -> dict[str, Tensor]:
    from safetensors.torch import load

    try:
        return load(content)
    except Exception as error:  # of several kinds: a KeyError for a type of numbers that torch lacks
        raise UserError(
            f"{file}: no safetensors file that can be read ({type(error).__name__}: {error}); restore it or train that "
            "study again"
        ) from error


def _state_dict(file: Path, content: bytes) -> dict[str, Tensor]:
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sparse and quantised tensors, which are refused below
            state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # a broken or hostile file raises errors of every kind
        raise UserError(
            f"{file}: no file of tensors alone ({type(error).__name__}), and nothing else is read; expected a file "
            f"*{SAFETENSORS}, or one that torch.save(network.state_dict(), FILE) wrote"
        ) from error
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in state.items()
    ):
        found = _some([str(name) for name in state], ", ") if isinstance(state, Mapping) else type(state).__name__
        raise UserError(f"{file}: no state_dict (found {found}); expected tensors by name: save that part of it alone")
    return dict(state)


def _unfit(network: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    """Return the tensors of a file that a network cannot hold as they are, each with its kind."""
    import torch

    ours, floats = network.state_dict(), (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    wholes = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
    unfit = []
    for name, value in state.items():
        if value.is_nested or value.layout != torch.strided:
            unfit.append(f"{name} is nested or sparse ({value.layout})")
        elif value.is_quantized or value.device.type != "cpu":
            unfit.append(f"{name} is {value.dtype} on {value.device}")
        elif name in ours and value.dtype != (own := ours[name].dtype):
            # Whole numbers may come as others, such as a count of batches.
            others = floats if own.is_floating_point else () if own.is_complex else wholes
            if value.dtype not in others:
                unfit.append(f"{name} is {value.dtype}")
    return unfit


def non_finite(state: Mapping[str, Tensor], network: nn.Module) -> list[str]:
    """Return the names of tensors in a network's state with NaN, or with infinity if they are no constants.

    A buffer such as an attention mask may hold infinity; parameters and running statistics may not.
    """
    learned = {name for name, _ in network.named_parameters()}
    return [
        name
        for name, value in state.items()
        if value.isnan().any() or ((name in learned or "running_" in name) and value.isinf().any())
    ]


def _size(value: Tensor) -> str:
    return "nested" if value.is_nested else "x".join(map(str, value.shape)) or "a number"


def _some(names: Sequence[str], separator: str) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return separator.join(names[:MOST_NAMED]) + more
