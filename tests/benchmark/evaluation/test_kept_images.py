"""The files that panels are drawn from: which images are in them, that they hold what was predicted, hostile ones."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmark.config.protocol import Protocol, load_protocol
from benchmark.data.datasets import resolve
from benchmark.data.fingerprint import HashCache
from benchmark.data.packs import Pack, open_pack
from benchmark.data.tile_blocks import TileBlock, blocks_of, join
from benchmark.evaluation import kept_images
from benchmark.evaluation.evaluate import evaluate
from benchmark.executors.events import Event, Finished, Started
from benchmark.runs.jobs import Job, TrainJob
from benchmark.runs.perform import perform_claimed
from benchmark.study.execute import execute
from benchmark.study.plan import make_plan
from benchmark.study.study import Study
from benchmark.utils.errors import UserError
from tests.benchmark.conftest import SMALL
from tests.benchmark.data.folder_makers import add_pair, picture

CPU = torch.device("cpu")


class Here:
    """An executor that trains in this process and measures nothing."""

    def run(self, jobs: Sequence[Job]) -> Generator[Event, None, None]:
        for job in jobs:
            yield Started(job)
            yield Finished(job, perform_claimed(job, lambda *_: None) if isinstance(job, TrainJob) else None, 1.0)


class Bright(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x - 0.5


class TwoLayers(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x - 0.5, 0.3 - x], dim=1)


def with_panels(count: int, *more: str) -> Protocol:
    return load_protocol("quick", [*SMALL, f"report.panels={count}", *more])


def names(blocks: tuple[TileBlock, ...]) -> list[str]:
    return [block.tile.name for block in blocks]


def test_candidates_depend_on_names_and_seed_alone_and_fewer_are_the_first_of_more(pack: Pack) -> None:
    everything = range(len(pack.tiles))
    drawn = names(kept_images.candidates(pack, everything, with_panels(64)))
    assert sorted(drawn) == sorted(tile.name for tile in pack.tiles)
    assert drawn != [tile.name for tile in pack.tiles]
    assert names(kept_images.candidates(pack, everything, with_panels(3))) == drawn[:3]
    turned = replace(pack, tiles=pack.tiles[::-1])
    assert names(kept_images.candidates(turned, everything, with_panels(3))) == drawn[:3]
    rest = [index for index in everything if pack.tiles[index].name != drawn[0]]
    assert names(kept_images.candidates(pack, rest, with_panels(2))) == drawn[1:3]
    assert names(kept_images.candidates(pack, everything, with_panels(64, "seed=1"))) != drawn
    assert kept_images.candidates(pack, everything, with_panels(0)) == ()


def test_large_images_are_fewer(pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_images, "MOST_PIXELS", 5 * 32 * 32)
    assert len(kept_images.candidates(pack, range(10), with_panels(12))) == 5


def test_what_is_kept_is_what_was_tested(pack: Pack, tmp_path: Path) -> None:
    protocol = with_panels(3, "evaluation.batch=2")
    indices = range(7)
    chosen = kept_images.candidates(pack, indices, protocol)
    keeper = kept_images.Keeper(pack, indices, protocol)
    evaluate(Bright(), pack, indices, protocol, CPU, keeper)
    for name, content in (("run", keeper.content()), ("study", kept_images.pack_images(pack, indices, protocol))):
        (tmp_path / name).write_bytes(content["omc-syn"])
        again = keeper.content() if name == "run" else kept_images.pack_images(pack, indices, protocol)
        assert content == again
    images, predictions = kept_images.read_images(tmp_path / "study"), kept_images.read_predictions(tmp_path / "run")
    assert list(images.names) == list(predictions.names) == names(chosen)
    pixels, masks = pack.centre([block.grid[0][0] for block in chosen], 32)  # type: ignore[misc]
    np.testing.assert_array_equal(images.images, pixels)
    np.testing.assert_array_equal(images.masks, masks[:, 0])
    for name, image in zip(images.names, pixels, strict=True):
        np.testing.assert_array_equal(predictions.of(name), image[..., 0] / 255 >= 0.5)


def test_blocks_are_kept_whole_and_those_of_another_shape_are_left_out(tmp_path: Path) -> None:
    shapes = {"a": (64, 320), "b": (64, 320), "c": (320, 96)}
    for index, (name, shape) in enumerate(shapes.items()):
        add_pair(tmp_path / "data" / "scans", name, picture(index, *shape))
    protocol = load_protocol("open", ["input.size=32", "report.panels=9"])
    (scans,) = resolve("scans", tmp_path / "data", protocol, HashCache(None))
    pack = open_pack(scans, protocol, tmp_path / "cache")
    indices = pack.divide(protocol).test
    blocks = {block.tile.name: join(pack, block.grid) for block in blocks_of(pack.tiles, indices)}
    keeper = kept_images.Keeper(pack, indices, protocol)
    evaluate(Bright(), pack, indices, protocol, CPU, keeper)
    (tmp_path / "run").write_bytes(keeper.content()["scans"])
    (tmp_path / "study").write_bytes(kept_images.pack_images(pack, indices, protocol)["scans"])
    images, predictions = kept_images.read_images(tmp_path / "study"), kept_images.read_predictions(tmp_path / "run")
    alike = {name for name, (image, _) in blocks.items() if image.shape == images.images[0].shape}
    assert {*images.names} == {*predictions.names} == alike
    assert len(images.names) < len(blocks) == 3
    for name, pixels, mask in zip(images.names, images.images, images.masks, strict=True):
        image, masks = blocks[name]
        np.testing.assert_array_equal(pixels, image)
        np.testing.assert_array_equal(mask, masks[..., 0])
        np.testing.assert_array_equal(predictions.of(name), image[..., 0] / 255 >= 0.5)


def test_each_layer_is_kept_by_itself(pack: Pack, tmp_path: Path) -> None:
    protocol, indices = with_panels(2), range(4)
    both = replace(pack, masks=np.concatenate([pack.masks, 1 - pack.masks], -1), layers=("track", "via"))
    keeper = kept_images.Keeper(both, indices, protocol)
    evaluate(TwoLayers(), both, indices, protocol, CPU, keeper)
    chosen = kept_images.candidates(both, indices, protocol)
    pixels, masks = both.centre([block.grid[0][0] for block in chosen], 32)  # type: ignore[misc]
    predicted = {"omc-syn@track": pixels[..., 0] / 255 >= 0.5, "omc-syn@via": pixels[..., 0] / 255 <= 0.3}
    images, predictions = kept_images.pack_images(both, indices, protocol), keeper.content()
    assert images.keys() == predictions.keys() == predicted.keys()
    for layer, (test, expected) in enumerate(predicted.items()):
        (tmp_path / "study").write_bytes(images[test])
        (tmp_path / "run").write_bytes(predictions[test])
        shown, kept = kept_images.read_images(tmp_path / "study"), kept_images.read_predictions(tmp_path / "run")
        np.testing.assert_array_equal(shown.masks, masks[:, layer])
        np.testing.assert_array_equal([kept.of(name) for name in shown.names], expected)


def test_width_that_is_no_multiple_of_eight_comes_back(pack: Pack, tmp_path: Path) -> None:
    protocol = with_panels(1, "input.size=20")
    keeper = kept_images.Keeper(pack, [4], protocol)
    prediction = np.random.default_rng(0).random((20, 20)) < 0.5
    keeper(pack.tiles[4].name, prediction[None])
    keeper(pack.tiles[0].name, ~prediction[None])  # no candidate
    (tmp_path / "run").write_bytes(keeper.content()["omc-syn"])
    np.testing.assert_array_equal(kept_images.read_predictions(tmp_path / "run").of(pack.tiles[4].name), prediction)


@pytest.mark.parametrize(("count", "kept"), [(1, 1), (0, None)])
def test_study_keeps_images_once_and_predictions_per_run_or_none(
    make_study: Callable[..., Study], count: int, kept: int | None
) -> None:
    study = make_study(with_panels(count, "repeats=1"))
    execute(study, make_plan(study), Here(), lambda event: None)
    result = sorted(str(path.relative_to(study.folder)) for path in study.folder.rglob("*.npz"))
    if kept is None:
        assert result == []
        return
    assert result == ["panels/omc-syn.npz", "runs/omc-syn/tinynet/0/panels.omc-syn.npz"]
    images = kept_images.read_images(study.folder / result[0])
    assert len(images.names) == kept
    assert kept_images.read_predictions(study.folder / result[1]).names == images.names


def written(file: Path, **arrays: np.ndarray) -> Path:
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    file.write_bytes(content.getvalue())
    return file


GOOD = {
    "names": np.array(["a", "b"]),
    "images": np.zeros((2, 8, 8, 1), np.uint8),
    "masks": np.zeros((2, 8, 8), np.uint8),
}
KEPT = {"names": np.array(["a", "b"]), "bits": np.zeros((2, 8, 1), np.uint8), "width": np.array([8])}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"names": np.array(["a", "a"])}, "an image comes twice"),
        ({"names": np.array(["a"])}, "do not go together"),
        ({"names": np.array([1, 2])}, "names: an array of int64"),
        ({"images": np.zeros((2, 8, 8, 2), np.uint8)}, "do not go together"),
        ({"images": np.zeros((2, 8, 8), np.uint8)}, r"images: an array of uint8 with the shape \(2, 8, 8\)"),
        ({"images": np.zeros((2, 8, 8, 1), np.uint16)}, "images: an array of uint16"),
        ({"images": np.zeros((2, 9, 8, 1), np.uint8)}, "do not go together"),
        ({"masks": np.full((2, 8, 8), 3, np.uint8)}, "a mask with the value 3"),
        ({"masks": np.zeros((2, 0, 8), np.uint8)}, r"with the shape \(2, 0, 8\)"),
        ({"names": np.array([object(), object()])}, "Object arrays cannot be loaded"),
        ({"names": np.frombuffer(b"\xff" * 8, "<U1")}, "names that are no text"),
        ({"names": np.array(["", ""])}, "an image comes twice"),
    ],
)
def test_broken_file_of_images_is_named(tmp_path: Path, changes: dict[str, np.ndarray], told: str) -> None:
    assert kept_images.read_images(written(tmp_path / "good.npz", **GOOD)).names == ("a", "b")
    with pytest.raises(UserError, match=rf"bad\.npz: cannot be read .*{told}"):
        kept_images.read_images(written(tmp_path / "bad.npz", **GOOD | changes))


@pytest.mark.parametrize(
    "changes",
    [{"width": np.array([16])}, {"width": np.array([0])}, {"width": np.array([8, 8])}, {"bits": KEPT["bits"][:1]}],
)
def test_broken_file_of_predictions_is_named(tmp_path: Path, changes: dict[str, np.ndarray]) -> None:
    assert kept_images.read_predictions(written(tmp_path / "good.npz", **KEPT)).of("a").shape == (8, 8)
    with pytest.raises(UserError, match=r"bad\.npz: cannot be read .*do not go together"):
        kept_images.read_predictions(written(tmp_path / "bad.npz", **KEPT | changes))


def claiming(shape: tuple[int, ...], content: bytes) -> bytes:
    """An ``.npy`` file whose header claims a shape."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return header.getvalue() + content


@pytest.mark.parametrize(
    ("bits", "told"),
    [
        (claiming((2, 2**40, 2**20), b"\0" * 64), "Maximum allowed|allocate"),
        (claiming((2, 8, 2**21), b"\0" * 2**25), "33554[0-9]* bytes"),  # 32 MiB in 32 KiB
        (pickle.dumps("no"), "magic string"),
        (b"", "EOF"),
        (claiming((2, 8, 2), b"\0" * 31), "EOF"),
    ],
)
def test_file_that_would_fill_the_memory_or_is_no_array_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bits: bytes, told: str
) -> None:
    monkeypatch.setattr(kept_images, "MOST_BYTES", 2**24)
    with zipfile.ZipFile(written(tmp_path / "bad.npz", names=KEPT["names"], width=KEPT["width"]), "a") as archive:
        archive.writestr("bits.npy", bits, zipfile.ZIP_DEFLATED)
    with pytest.raises(UserError, match=rf"bad\.npz: cannot be read .*{told}"):
        kept_images.read_predictions(tmp_path / "bad.npz")


def test_more_pixels_than_a_study_keeps_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_images, "MOST_PIXELS", 100)
    for read, arrays in ((kept_images.read_images, GOOD), (kept_images.read_predictions, KEPT)):
        with pytest.raises(UserError, match="more than 100 pixels"):
            read(written(tmp_path / "large.npz", **arrays))


def test_damaged_file_is_a_user_error_or_still_whole_never_anything_else(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    file = written(tmp_path / "x.npz", **KEPT)
    whole = file.read_bytes()
    refused = 0
    for _ in range(600):
        content = bytearray(whole)
        for place in rng.integers(len(content), size=rng.integers(1, 4)):
            content[place] = rng.integers(256)
        file.write_bytes(content[: rng.integers(1, len(content) + 1)] if rng.random() < 0.2 else content)
        try:
            result = kept_images.read_predictions(file)
        except UserError as error:
            refused += str(file) in str(error)
        else:
            assert result.names == ("a", "b")
            assert not result.of("a").any()
    assert refused > 200
