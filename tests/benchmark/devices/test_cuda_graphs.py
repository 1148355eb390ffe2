"""CUDA graphs: replays compute what calls do; odd shapes and networks without a graph are called as they are."""

from __future__ import annotations

import copy
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from benchmark.config import registry
from benchmark.config.execution import Execution
from benchmark.config.protocol import Protocol, load_protocol
from benchmark.config.training_settings import Training
from benchmark.data.batches import Batch, TrainingBatches, evaluation_batches
from benchmark.data.packs import Pack
from benchmark.devices import cuda_graphs
from benchmark.devices.cuda_graphs import WAITED, WARM_UP, NotCapturableError, Replayed
from benchmark.devices.launch_mode import Launch
from benchmark.devices.precision import to_device
from benchmark.evaluation.evaluate import evaluate
from benchmark.training import loop
from tests.benchmark.conftest import SMALL
from tests.benchmark.fake_graphs import Generator, Tape, capturing, tapes
from tests.benchmark.tiny import Comparable, Dropping, TinyNet
from tests.network_tester import networks

__all__ = ["tapes"]  # a fixture

CPU = torch.device("cpu")
# Six training images in batches of four: every epoch ends in an odd batch.
TWELVE = ("training.steps=12", "training.validate_every=4", "evaluation.batch=1", "split.counts=[6,3,1]")


class Waiting(Comparable):
    """Asks the device for a number and goes on accordingly."""

    def forward(self, x: Tensor) -> Tensor:
        if float(x.mean()) > 2:
            x = x / 2
        return super().forward(x)


class Counting(TinyNet):
    """A GPU's waits, as torch tells them, where there is no GPU."""

    def forward(self, x: Tensor) -> Tensor:
        warnings.warn(f"{WAITED} (Triggered internally)", stacklevel=1)
        return super().forward(x)


class Chance(TinyNet):
    """Draws random numbers on the host, which a replay would not."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * (1 + random.random())


class Breaking(TinyNet):
    """Cannot be captured, for a reason that nothing foretells."""

    def forward(self, x: Tensor) -> Tensor:
        if capturing():
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nfurther advice")
        return super().forward(x)


class Trained:
    """What a training left: its curve, its weights and buffers, the moments, and how it was executed."""

    def __init__(
        self, network: nn.Module, pack: Pack, protocol: Protocol, device: torch.device, execution: Execution
    ) -> None:
        division = pack.divide(protocol)
        batches = TrainingBatches([(pack, division.train)], 32, protocol, 0, device)
        optimizers: list[torch.optim.Optimizer] = []

        def kept(network: nn.Module, settings: Training, *, captured: bool) -> torch.optim.Optimizer:
            assert captured == (execution == "graph")
            optimizers.append(make(network, settings, captured=True))  # the same rates to the bit in both ways
            return optimizers[-1]

        def validation() -> Iterator[Batch]:
            return evaluation_batches(pack, division.val, 32, protocol.evaluation.batch, device)

        make = loop.make_optimizer
        self.network = to_device(network, device)
        self.launch = Launch(self.network, device, execution)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loop, "make_optimizer", kept)
            trained = loop.train(self.network, batches, validation, protocol, lambda *_: None, launch=self.launch)
        self.curve = torch.tensor([(row.train_loss, row.validation_loss) for row in trained.history])
        (optimizer,) = optimizers
        states = optimizer.state_dict()["state"]
        self.tensors = {name: value.cpu() for name, value in self.network.state_dict().items()}
        self.tensors |= {f"{index}.{key}": value.cpu() for index, of in states.items() for key, value in of.items()}

    def assert_equal(self, other: Trained, **tolerance: float) -> None:
        torch.testing.assert_close(self.curve, other.curve, **tolerance)
        assert self.tensors.keys() == other.tensors.keys()
        assert any(name.endswith("exp_avg_sq") for name in self.tensors)
        assert any(name.endswith("num_batches_tracked") for name in self.tensors)
        for name, value in self.tensors.items():
            torch.testing.assert_close(
                value, other.tensors[name], **tolerance, msg=lambda text, name=name: f"{name}: {text}"
            )


EXACT = {"rtol": 0.0, "atol": 0.0}
# Six of the twelve batches are whole, and three validations of three images each; the rest is called as it is.
REPLAYS = [6 - WARM_UP, 3 * 3 - WARM_UP]


def with_settings(*overrides: str) -> Protocol:
    return load_protocol("quick", [*SMALL, *TWELVE, *overrides])


def both(
    make: Callable[[], nn.Module], pack: Pack, protocol: Protocol, device: torch.device = CPU
) -> tuple[Trained, Trained]:
    """Train twice from the same weights and random state, eagerly and by graph."""
    result = []
    executions: tuple[Execution, ...] = ("eager", "graph")
    for execution in executions:
        torch.manual_seed(0)
        result.append(Trained(make(), pack, protocol, device, execution))
    return result[0], result[1]


@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("micro", [1, 4])
def test_training_by_replays_is_the_same_to_the_last_bit(
    pack: Pack, tapes: list[Tape], monkeypatch: pytest.MonkeyPatch, ignored: bool, micro: int
) -> None:
    if ignored:
        monkeypatch.setattr(type(pack), "has_ignored", True, raising=False)
    eager, replayed = both(TinyNet, pack, with_settings(f"training.micro_batch={micro}"))
    replayed.assert_equal(eager, **EXACT)
    assert replayed.launch.facts() == {"execution": "graph"}
    assert [tape.replays for tape in tapes] == REPLAYS


def test_capture_leaves_random_numbers_and_buffers_as_they_were(tapes: list[Tape]) -> None:
    network, x = TinyNet().train(), torch.rand(2, 1, 8, 8)
    before, state = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    drawing = lambda x: network(x) + torch.rand(1)  # noqa: E731
    cuda_graphs.Graph(drawing, (x,), torch.cuda.Stream(CPU))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (Counting, "the host waits for the GPU in test_cuda_graphs.py, line"),
        (Chance, "random numbers are drawn on the host"),
        (Breaking, "RuntimeError: CUDA error: operation not permitted when stream is capturing"),
    ],
)
@pytest.mark.filterwarnings(f"ignore:{WAITED}")
def test_network_that_cannot_be_captured_is_trained_eagerly_and_says_so(
    pack: Pack, tapes: list[Tape], capsys: pytest.CaptureFixture[str], network: type[nn.Module], reason: str
) -> None:
    random.seed(0)
    torch.manual_seed(0)
    result = Trained(network(), pack, with_settings(), CPU, "graph")
    facts = result.launch.facts()
    assert facts["execution"] == "eager"
    assert facts["execution_reason"].startswith(f"no CUDA graph: {reason}")
    assert "\n" not in facts["execution_reason"]
    assert capsys.readouterr().out == f"execution: eager from here on; {facts['execution_reason']}\n"
    assert sum(tape.replays for tape in tapes) == 0
    assert Generator.restored == len(tapes) == len(cuda_graphs._FAILED) == (network is Breaking)
    assert not any(tape.underway for tape in tapes)
    random.seed(0)
    torch.manual_seed(0)
    result.assert_equal(Trained(network(), pack, with_settings(), CPU, "eager"), **EXACT)


def test_after_a_failure_nothing_is_tried_again(tapes: list[Tape]) -> None:
    def fails(x: Tensor) -> Tensor:
        if capturing():
            raise ValueError("not in a capture")
        return x + 1

    launch = Launch(nn.Identity(), CPU, "graph")
    first, second = launch.of(fails), launch.of(lambda x: x + 2)
    for _ in range(2 * WARM_UP):
        assert first(torch.zeros(1)).item() == 1
        assert second(torch.zeros(1)).item() == 2
    assert (launch.mode, launch.reason) == ("eager", "no CUDA graph: ValueError: not in a capture")
    assert len(tapes) == 1


def test_run_too_short_for_a_graph_says_that_it_was_eager(tapes: list[Tape]) -> None:
    launch = Launch(nn.Identity(), CPU, "graph")
    call = launch.of(lambda x: x + 1)
    for _ in range(WARM_UP):
        call(torch.zeros(1))
    assert launch.facts()["execution"] == "eager"
    call(torch.zeros(1))
    assert launch.facts() == {"execution": "graph"}


def test_testing_by_replays_finds_the_same(small: Protocol, pack: Pack, tapes: list[Tape]) -> None:
    network, indices = TinyNet(), range(len(pack.tiles))
    protocol = small.model_copy(update={"evaluation": small.evaluation.model_copy(update={"batch": 2})})
    eager = evaluate(network, pack, indices, protocol, CPU)
    replayed = evaluate(network, pack, indices, protocol, CPU, launch=Launch(network, CPU, "graph"))
    assert replayed == eager
    assert [tape.replays for tape in tapes] == [len(indices) // 2 - WARM_UP]


@pytest.fixture
def meta(monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """The device of shapes alone, of which no number can be asked for, with a fused optimiser as GPUs have it."""
    optimizer = sys.modules["torch.optim.optimizer"]  # torch.optim has no attribute of that name
    monkeypatch.setattr(optimizer, "_get_fused_kernels_supported_devices", lambda: ["meta"])
    return torch.device("meta")


def take_a_step(network: nn.Module, device: torch.device, protocol: Protocol) -> None:
    """Train on a batch in two parts and validate on it, as a run does between two rounds."""
    network = to_device(network, device).train()
    image = torch.rand(2, 1, 64, 64, device=device)
    batch = Batch(image, torch.zeros_like(image), torch.ones_like(image))
    loop.training_step(network, batch, SimpleNamespace(micro_batch=1, layers=("track",)), protocol)
    loop.clip_gradients(network, protocol.training)
    loop.make_optimizer(network, protocol.training).step()  # torch has no shapes of a step with its rate on the device
    if protocol.training.ema:
        loop.AveragedWeights(network, protocol.training.ema).update(1)
    with torch.inference_mode():
        loop.validation_step(network.eval(), batch, ("track",), protocol)


@pytest.mark.parametrize("name", networks("all,eal_icnet.*", everyday=("eal_icnet",)))
def test_no_network_here_asks_the_device_for_a_number(name: str, meta: torch.device) -> None:
    with meta:
        network = registry.models()[name].build(in_channels=1)
    take_a_step(network, meta, load_protocol("paper"))


@pytest.mark.parametrize("preset", ["paper", "strict", "quick"])
def test_no_protocol_s_step_asks_the_device_for_a_number(preset: str, meta: torch.device) -> None:
    take_a_step(TinyNet(), meta, load_protocol(preset, ["training.mixed_precision=off"]))


def test_network_that_asks_for_a_number_is_noticed_by_those_tests(meta: torch.device) -> None:
    with pytest.raises(RuntimeError, match="meta"):
        take_a_step(Waiting(), meta, load_protocol("paper"))


# What follows needs a GPU. Bits may differ there: a captured convolution may be another kernel than an eager one.
CLOSE = {"rtol": 1e-4, "atol": 1e-5}
DETERMINISTIC = "determinism=deterministic"


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[torch.device]:
    """The GPU, with kernels that repeat themselves."""
    from benchmark.training import determinism

    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    with determinism.kernels("deterministic"):
        yield torch.device("cuda", torch.cuda.current_device())


@pytest.mark.gpu
@pytest.mark.parametrize("network", [Comparable, Dropping])
@pytest.mark.parametrize("dtype", ["off", "bfloat16"])
@pytest.mark.parametrize("micro", [1, 4])
def test_gpu_trains_alike_by_graph(
    pack: Pack, gpu: torch.device, network: type[nn.Module], dtype: str, micro: int
) -> None:
    protocol = with_settings(f"training.mixed_precision={dtype}", f"training.micro_batch={micro}", DETERMINISTIC)
    eager, replayed = both(network, pack, protocol, gpu)
    assert replayed.launch.facts() == {"execution": "graph"}
    replayed.assert_equal(eager, **CLOSE)


@pytest.mark.gpu
@pytest.mark.parametrize("name", [entry.name for entry in registry.select("all")])
def test_networks_of_the_registry_are_captured_and_train_alike(
    pack: Pack, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Deeper networks magnify what differs in the last bit, so that few steps are compared: six of a whole batch."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    protocol = with_settings("training.validate_every=12", "training.lr=1e-4")
    device = torch.device("cuda", torch.cuda.current_device())
    eager, replayed = both(lambda: registry.models()[name].build(in_channels=1), pack, protocol, device)
    assert replayed.launch.facts() == {"execution": "graph"}
    torch.testing.assert_close(replayed.curve, eager.curve, rtol=1e-3, atol=1e-4)


@pytest.mark.gpu
def test_replays_draw_the_random_numbers_that_calls_draw(gpu: torch.device) -> None:
    def draw(x: Tensor) -> Tensor:
        return nn.functional.dropout(x, 0.5)

    call, x = Replayed(draw), torch.ones(64, device=gpu)
    torch.manual_seed(0)
    replayed = [call(x).clone() for _ in range(2 * WARM_UP)]
    after = torch.cuda.get_rng_state(gpu)
    torch.manual_seed(0)
    assert all(torch.equal(one, draw(x)) for one in replayed)
    assert torch.equal(torch.cuda.get_rng_state(gpu), after)
    assert not torch.equal(replayed[-1], replayed[-2])


@pytest.mark.gpu
def test_network_that_waits_for_the_gpu_is_trained_eagerly(pack: Pack, gpu: torch.device) -> None:
    eager, fallen = both(Waiting, pack, with_settings(DETERMINISTIC), gpu)
    assert fallen.launch.facts()["execution_reason"].startswith("no CUDA graph: the host waits for the GPU in test_g")
    fallen.assert_equal(eager, **CLOSE)


@pytest.mark.gpu
def test_capture_that_breaks_off_leaves_a_gpu_that_draws_allocates_and_captures(
    gpu: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    def waits(x: Tensor) -> Tensor:
        return nn.functional.dropout(x, 0.5) * float(x.sum())

    x, stream = torch.ones(64, device=gpu), torch.cuda.current_stream(gpu)
    monkeypatch.setattr(cuda_graphs, "obstacles", lambda found: cuda_graphs.contextlib.nullcontext())
    call = Replayed(waits)
    torch.manual_seed(0)
    for _ in range(WARM_UP):
        call(x)
    with pytest.raises(NotCapturableError):
        call(x)
    assert torch.cuda.current_stream(gpu) == stream
    last = waits(x)
    torch.manual_seed(0)
    assert torch.equal(last, [waits(x) for _ in range(WARM_UP + 1)][-1])
    torch.cuda.empty_cache()
    doubled = cuda_graphs.captured(lambda x: 2 * x, x)
    assert torch.equal(doubled(torch.full_like(x, 4)), torch.full_like(x, 8))


@pytest.mark.gpu
def test_gpu_tests_alike_by_graph(small: Protocol, pack: Pack, gpu: torch.device) -> None:
    torch.manual_seed(0)
    network, indices = to_device(TinyNet(), gpu), range(len(pack.tiles))
    protocol = small.model_copy(update={"evaluation": small.evaluation.model_copy(update={"batch": 1})})
    launch = Launch(network, gpu, "auto")
    replayed = evaluate(network, pack, indices, protocol, gpu, launch=launch)
    assert replayed == evaluate(network, pack, indices, protocol, gpu)
    assert launch.facts() == {"execution": "graph"}
