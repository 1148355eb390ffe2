"""Going on after an interruption: the same weights to the bit, and no trust in the file."""

from __future__ import annotations

import dataclasses
import os
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmark.config.execution import Execution
from benchmark.config.protocol import Protocol, load_protocol
from benchmark.data.batches import Batch, TrainingBatches, evaluation_batches
from benchmark.data.packs import Pack
from benchmark.devices.launch_mode import Launch
from benchmark.training import loop
from benchmark.training.checkpoint import Checkpoint
from tests.benchmark.conftest import SMALL
from tests.benchmark.fake_graphs import Tape, tapes
from tests.benchmark.tiny import Dropping, TinyNet

__all__ = ["tapes"]  # a fixture

CPU = torch.device("cpu")
RECIPES = {
    "steps in the middle of epochs, norms re-estimated": ["training.steps=11", "training.validate_every=3"],
    "epochs, cosine, AdamW, flips": [
        *("training.steps=none", "training.epochs=5", "training.validate_every=none", "training.schedule=cosine"),
        *("training.optimizer=adamw", "training.weight_decay=0.01", "training.augmentation=flips_turns"),
        "training.norm_reestimation_batches=0",
    ],
    "SGD, poly after a warm-up, clipping, averaged weights, norms re-estimated": [
        *("training.steps=11", "training.validate_every=3", "training.optimizer=sgd", "training.lr=0.1"),
        *("training.schedule=poly", "training.warmup=0.5", "training.clip_norm=0.1", "training.ema=0.9"),
    ],
    "averaged weights, other loss": [
        *("training.steps=11", "training.validate_every=3", "training.ema=0.9", "loss.name=cldice"),
        "loss.cldice_iterations=2",
        "training.norm_reestimation_batches=0",
    ],
    "photometric changes, also of the batches for norms": [
        *("training.steps=11", "training.validate_every=3", "photometric.gain=0.3", "photometric.gamma=0.5"),
        *("photometric.blur=1.5", "photometric.noise=0.1", "photometric.blocks=2"),
    ],
    "early stop": ["training.steps=30", "training.validate_every=2", "training.patience=2", "training.lr=0.9"],
}


class Interrupted(Exception):
    """What a kill is to the training."""


class Always(Checkpoint):
    """Writes after every round, however short."""

    def due(self, state_bytes: int) -> bool:
        return True


def session(
    pack: Pack,
    protocol: Protocol,
    checkpoint: Checkpoint | None,
    stop_at: int | None = None,
    execution: Execution = "eager",
) -> tuple[nn.Module, loop.TrainingResult, list[int]]:
    """Train a network from its seed, as a process of its own would, perhaps up to an interruption."""
    torch.manual_seed(5)
    network = Dropping() if execution == "eager" else TinyNet()  # a CPU draws on the host, which no graph can hold
    division = pack.divide(protocol)
    batches = TrainingBatches([(pack, division.train)], 32, protocol, 0, CPU)
    steps: list[int] = []

    def on_step(done: int, total: int) -> None:
        if done == stop_at:
            raise Interrupted
        steps.append(done)

    def validation() -> Iterator[Batch]:
        return evaluation_batches(pack, division.val, 32, 2, CPU)

    launch = Launch(network, CPU, execution)
    trained = loop.train(network, batches, validation, protocol, on_step, checkpoint, launch)
    return network, trained, steps


def without_clock(history: list[loop.Round]) -> list[loop.Round]:
    return [dataclasses.replace(row, seconds=0.0, images_per_second=0.0) for row in history]


@pytest.mark.parametrize("recipe", RECIPES)
def test_training_that_was_interrupted_twice_ends_with_the_same_weights(
    recipe: str, pack: Pack, tmp_path: Path
) -> None:
    assert_interruptions_change_nothing(load_protocol("quick", [*SMALL, *RECIPES[recipe]]), pack, tmp_path, "eager")


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_graph_goes_on_with_the_optimiser_s_state_of_a_checkpoint(
    optimizer: str, pack: Pack, tmp_path: Path, tapes: list[Tape]
) -> None:
    steps = ("training.steps=24", "training.validate_every=8", "training.schedule=poly", "training.clip_norm=0.1")
    protocol = load_protocol("quick", [*SMALL, *steps, f"training.optimizer={optimizer}"])
    assert_interruptions_change_nothing(protocol, pack, tmp_path, "graph")
    assert sum(tape.replays > 0 for tape in tapes) > 2


def assert_interruptions_change_nothing(protocol: Protocol, pack: Pack, folder: Path, execution: Execution) -> None:
    whole, expected, steps = session(pack, protocol, None, execution=execution)
    checkpoint = Always(folder / "last.pt", "k")
    for stop_at in (steps[len(steps) // 2], steps[-1]):
        with pytest.raises(Interrupted):
            session(pack, protocol, checkpoint, stop_at, execution)
    network, trained, taken = session(pack, protocol, checkpoint, execution=execution)
    assert taken == steps[-len(taken) :]
    assert 0 < len(taken) < len(steps)  # it went on, and not from the beginning
    assert without_clock(trained.history) == without_clock(expected.history)
    assert trained.best.round == expected.best.round
    for name, value in whole.state_dict().items():
        assert torch.equal(network.state_dict()[name], value), name


def test_time_is_counted_over_all_sessions(pack: Pack, tmp_path: Path) -> None:
    protocol = load_protocol("quick", [*SMALL, "training.steps=4", "training.validate_every=2"])
    checkpoint = Always(tmp_path / "last.pt", "k")
    with pytest.raises(Interrupted):
        session(pack, protocol, checkpoint, 3)
    state = checkpoint.load()
    assert state is not None
    checkpoint.save(state | {"seconds": 1000.0})
    trained = session(pack, protocol, checkpoint)[1]
    assert trained.seconds > trained.earlier_seconds == 1000.0


def test_checkpoint_of_another_run_is_not_used(pack: Pack, tmp_path: Path) -> None:
    protocol = load_protocol("quick", [*SMALL, "training.steps=4", "training.validate_every=2"])
    with pytest.raises(Interrupted):
        session(pack, protocol, Always(tmp_path / "last.pt", "one"), 3)
    assert session(pack, protocol, Always(tmp_path / "last.pt", "other"))[2] == [1, 2, 3, 4]


class Hostile:
    """Runs code when it is unpickled."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.proof),)


@pytest.mark.parametrize("kind", ["pickle", "torch", "truncated", "other content", "empty"])
def test_hostile_or_damaged_file_runs_nothing_and_the_run_starts_anew(kind: str, tmp_path: Path) -> None:
    file, proof = tmp_path / "last.pt", tmp_path / "proof"
    Checkpoint(file, "k").save({"steps": 1})
    assert Checkpoint(file, "k").steps() == 1
    good = file.read_bytes()
    if kind == "torch":
        torch.save({"key": "k", "state": Hostile(proof)}, file)
    else:
        file.write_bytes(
            {
                "pickle": pickle.dumps({"key": "k", "state": Hostile(proof)}),
                "truncated": good[: len(good) // 2],
                "other content": b"not a checkpoint at all",
                "empty": b"",
            }[kind]
        )
    assert Checkpoint(file, "k").load() is None
    assert Checkpoint(file, "k").steps() is None
    assert not proof.exists()


def test_writing_takes_a_small_share_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("benchmark.training.checkpoint.time.perf_counter", lambda: now[0])
    checkpoint = Checkpoint(tmp_path / "last.pt", "k")
    heavy = 1_000_000_000  # bytes: five seconds at the assumed speed, worth a hundred seconds of training
    now[0] += 99.0
    assert not checkpoint.due(heavy)
    now[0] += 2.0
    assert checkpoint.due(heavy)
    checkpoint.save({"steps": 1})  # takes no time on this clock
    assert checkpoint.due(heavy)
