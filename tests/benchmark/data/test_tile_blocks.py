"""Blocks of tiles: joined as in the frame they were cut from, in tests and under training crops."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmark.config.protocol import Protocol, load_protocol
from benchmark.data.batches import TrainingBatches
from benchmark.data.datasets import resolve
from benchmark.data.fingerprint import HashCache
from benchmark.data.packs import IGNORED, Pack, open_pack
from benchmark.data.splits import Tile
from benchmark.data.tile_blocks import blocks_of, join, place_of, places_of, with_neighbours
from benchmark.utils.errors import UserError
from tests.benchmark.data.folder_makers import add_pair, picture
from tests.benchmark.data.tile_makers import grid

SIDE = 32
ROWS, COLUMNS = 3, 9
SETTINGS = (
    f"input.size={SIDE}",
    "split.validation=0.15",
    "split.test=0.3",
    "photometric.noise=0",
    "photometric.blur=0",
)


def frame() -> np.ndarray:
    return picture(7, ROWS * SIDE, COLUMNS * SIDE)


@pytest.fixture(scope="module")
def protocol() -> Protocol:
    exact = ("photometric.gain=0", "photometric.gamma=0", "training.augmentation=none")
    return load_protocol("open", [*SETTINGS, *exact])


@pytest.fixture(scope="module")
def pack(protocol: Protocol, tmp_path_factory: pytest.TempPathFactory) -> Pack:
    root = tmp_path_factory.mktemp("scan")
    add_pair(root / "data" / "scan", "scan", frame())
    (source,) = resolve("scan", root / "data", protocol, HashCache(None))
    return open_pack(source, protocol, root / "cache")


def test_block_is_the_part_of_the_frame_that_is_tested(pack: Pack, protocol: Protocol) -> None:
    division = pack.divide(protocol)
    (block,) = blocks_of(pack.tiles, division.test)
    image, masks = join(pack, block.grid)
    first, last = block.tile.column, block.tile.column + image.shape[1] // SIDE
    assert (image.shape, last - first) == ((ROWS * SIDE, 2 * SIDE, 1), 2)
    assert block.tile.name == f"scan_r0-{ROWS - 1}_c{first}-{last - 1}"
    np.testing.assert_array_equal(image[..., 0], frame()[:, first * SIDE : last * SIDE])
    np.testing.assert_array_equal(masks[..., 0] == 1, image[..., 0] > 127)
    trained = {pack.tiles[index].column for index in division.train}
    assert not {first - 1, *range(first, last), last} & trained  # a gap lies between


def test_frames_give_a_block_each_and_a_single_tile_keeps_its_name() -> None:
    tiles = [*grid("a", 2, 3), *grid("b", 1, 1), *grid("c", 2, 2)]
    tiles[6] = replace(tiles[6], name="b")  # an image of one tile
    blocks = blocks_of(tiles, [6, 1, 2, 4, 5, 9])
    assert [block.tile.name for block in blocks] == ["b", "a_r0-1_c1-2", "c_r1_c0"]
    assert [block.grid for block in blocks] == [[[6]], [[1, 2], [4, 5]], [[9]]]
    several = [replace(tile, group="one group") for tile in tiles]
    assert [block.grid for block in blocks_of(several, [0, 7])] == [[[0]], [[7]]]


def test_tiles_between_belong_to_a_block_and_missing_tiles_are_ignored(pack: Pack) -> None:
    (block,) = blocks_of(pack.tiles, [0, 11])  # opposite corners of 2 x 3 tiles
    assert block.grid == [[0, 1, 2], [9, 10, 11]]
    lacking = replace(
        pack, tiles=tuple(t if i != 1 else Tile("other", "other", None) for i, t in enumerate(pack.tiles))
    )
    (block,) = blocks_of(lacking.tiles, [0, 11])
    image, masks = join(lacking, block.grid)
    assert (masks[:SIDE, SIDE : 2 * SIDE] == IGNORED).all()
    assert not image[:SIDE, SIDE : 2 * SIDE].any()
    assert (masks != IGNORED).sum() == 5 * SIDE**2


def test_neighbours_are_training_tiles_alone() -> None:
    tiles = grid("f", 2, 2)
    shapes = {(): (1, 1), (1,): (1, 2), (2,): (2, 1), (1, 2): (1, 2), (1, 2, 3): (2, 2), (3,): (1, 1)}
    for others, (rows, columns) in shapes.items():
        cells = with_neighbours(tiles[0], places_of(tiles, [0, *others]))
        assert (len(cells), len(cells[0])) == (rows, columns)
        assert cells[0][0] == 0
    assert place_of(tiles[3]) == ("f", 1, 1)


def positions(pack: Pack, protocol: Protocol, rounds: int = 40) -> list[tuple[int, int]]:
    """Return the corners in the frame of many training crops, which noise tells apart."""
    batches = TrainingBatches([(pack, pack.divide(protocol).train)], SIDE, protocol, 0, torch.device("cpu"))
    whole, corners = frame(), []
    starts = {whole[y, x : x + 8].tobytes(): (y, x) for y in range(whole.shape[0]) for x in range(whole.shape[1] - 7)}
    for number in range(rounds):
        for batch in batches.epoch(number):
            for image, mask in zip((batch.images * 255).round().byte().numpy(), batch.masks.numpy(), strict=True):
                top, left = starts[image[0, 0, :8].tobytes()]
                np.testing.assert_array_equal(image[0], whole[top : top + SIDE, left : left + SIDE])
                np.testing.assert_array_equal(mask[0] == 1, image[0] > 127)
                corners.append((top, left))
    return corners


def test_crops_cross_edges_of_tiles_but_never_leave_the_training_block(pack: Pack, protocol: Protocol) -> None:
    corners = positions(pack, protocol)
    columns = {pack.tiles[index].column for index in pack.divide(protocol).train}
    assert all(0 <= top <= (ROWS - 1) * SIDE for top, _ in corners)
    assert all(min(columns) * SIDE <= left <= max(columns) * SIDE for _, left in corners)
    assert len({top % SIDE for top, _ in corners}) > SIDE // 2
    within = protocol.model_copy(update={"training": protocol.training.model_copy(update={"crops": "tile"})})
    assert {(top % SIDE, left % SIDE) for top, left in positions(pack, within, 2)} == {(0, 0)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["input.partial_tiles=true", "split.unit=group"], r"training\.crops = block joins tiles side by side"),
        (["split.unit=image"], r"evaluation\.window = block joins the test tiles of a frame"),
    ],
)
def test_settings_that_go_with_no_blocks_are_refused(changes: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_protocol("open", changes)


def test_scan_of_too_few_stripes_is_refused_with_the_remedy(tmp_path: Path) -> None:
    protocol = load_protocol("open", [*SETTINGS])
    add_pair(tmp_path / "data" / "scan", "scan", frame()[:, : 4 * SIDE])
    (source,) = resolve("scan", tmp_path / "data", protocol, HashCache(None))
    with pytest.raises(UserError, match=r"split\.unit=block needs 5 stripes of tiles .* frame 'scan' has 4"):
        open_pack(source, protocol, tmp_path / "cache").divide(protocol)
