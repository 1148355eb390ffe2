"""Compares decoding files for every batch with gathering pixels from a pack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from torch.utils.data import DataLoader

from benchmark.config.protocol import Protocol
from benchmark.data.batches import TrainingBatches
from benchmark.data.packs import Pack
from benchmark.records.speedup_record import SpeedupComparison
from benchmark.speedup import plain
from benchmark.speedup.setting import SpeedupSetting


@dataclass(frozen=True)
class Pictures:
    """The same images as a pack and as PNG files."""

    pack: Pack
    files: Sequence[tuple[Path, Path]]

    @property
    def size(self) -> int:
        """Side of the images, pixels."""
        return int(self.pack.images.shape[1])

    @property
    def parts(self) -> list[tuple[Pack, Sequence[int]]]:
        """The pack as :class:`~benchmark.data.batches.TrainingBatches` takes it."""
        return [(self.pack, range(len(self.files)))]


def write(pack: Pack, count: int, folder: Path) -> Pictures:
    """Write a pack's first images and masks as PNG files, as datasets are shipped."""
    files = []
    for index in range(count):
        pair = (folder / f"image{index}.png", folder / f"mask{index}.png")
        Image.fromarray(pack.images[index].squeeze(-1)).save(pair[0])
        Image.fromarray(pack.masks[index][..., 0] * 255).save(pair[1])
        files.append(pair)
    return Pictures(pack, files)


def feeding(pictures: Pictures, protocol: Protocol, setting: SpeedupSetting) -> SpeedupComparison:
    """Compare images per second that reach the network, one image per batch."""
    ours = TrainingBatches(pictures.parts, pictures.size, protocol, 0, setting.device)
    loader = DataLoader(plain.PlainImages(pictures.files), batch_size=1, shuffle=True)

    def decode() -> None:
        for batch in loader:
            for tensor in batch:
                tensor.to(setting.device)

    def gather() -> None:
        for _ in ours.epoch(0):
            pass

    feeds = {"plain": decode, "ours": gather}
    speeds = setting.in_turn(lambda way: setting.images_per_second(len(pictures.files), feeds[way]))
    return setting.comparison(
        what="feeding",
        size=pictures.size,
        unit="images/s",
        **speeds,
        plain_form=plain.FEEDING,
        our_form="pixels gathered from a memory-mapped pack of uint8, converted on the device",
    )
