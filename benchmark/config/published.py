"""Lists published figures of the networks on Cityscapes beside our own counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

CHANNELS, CLASSES = 3, 19  # of Cityscapes


@dataclass(frozen=True)
class Published:
    """Figures as a source prints them; their digits show the rounding.

    Attributes:
        source: of the figures.
        size: height and width of the input for MACs and frames per second, pixels.
        params: millions of parameters.
        miou: percent; on Cityscapes' test images unless the source says otherwise.
        counted_params: parameters of our network at 3 channels and 19 classes.
        gmacs: multiply-accumulates in units of ``giga``; printed as FLOPs.
        counted_gmacs: of our network, in the same units.
        giga: the source's divisor, 1e9 or 2**30.
        fps: frames per second.
        gpu: of ``fps``; blank if unknown.
        of: the published network if it differs from ours.
        kwargs: constructor arguments that turn our network into the published network.
        differs: reason of a difference beyond rounding.
    """

    source: str
    size: tuple[int, int]
    params: str
    miou: str
    counted_params: int
    gmacs: str | None = None
    counted_gmacs: float | None = None
    giga: int = 10**9
    fps: str | None = None
    gpu: str = ""
    of: str = ""
    kwargs: Mapping[str, Any] = field(default_factory=dict, hash=False)  # a dict has no hash
    differs: str = ""

    def describe(self) -> str:
        """Describe the figures, their configuration and our counts."""
        height, width = self.size
        unit = "G" if self.giga == 10**9 else "· 2³⁰"
        figures, counts = [f"{self.params} M params"], [f"{self.counted_params / 1e6:.3f} M"]
        if self.gmacs is not None and self.counted_gmacs is not None:
            figures.append(f"{self.gmacs} {unit} MACs")
            counts.append(f"{self.counted_gmacs:.2f} {unit}")
        if self.fps is not None:
            figures.append(f"{self.fps} FPS" + f" on one {self.gpu}" * bool(self.gpu))
        figures.append(f"{self.miou} % mIoU")
        return (
            f"published{f' of {self.of}' * bool(self.of)}: {', '.join(figures)} (Cityscapes, {height}×{width}, "
            f"{CHANNELS} channels, {CLASSES} classes; {self.source}); here {' and '.join(counts)}"
            f"{f': {self.differs}' * bool(self.differs)}"
        )


# IRDPNet is missing, since its paper has another decoder, and networks whose papers use other images.
PUBLISHED: Mapping[str, Published] = MappingProxyType(
    {
        "eal_icnet": Published(
            "arXiv:1907.11357", (512, 1024), "0.76", "70.1", 756_643, fps="104", gpu="GTX 1080Ti",
            of="DABNet, its skeleton without attention", kwargs={"tssa": False, "pam": False},
        ),
        "edanet": Published(
            "arXiv:1809.06323", (512, 1024), "0.68", "67.3", 689_485, fps="108", gpu="GTX 1080Ti",
            differs="0.68 is this cut off after two digits, or the count without the classifier (0.681 M)",
        ),
        "contextnet": Published(
            "arXiv:1805.04554", (1024, 2048), "0.85", "66.1", 876_563, fps="18.3",
            differs="why the paper counts 3 % less is not known",
        ),
        "esnet": Published(
            "arXiv:1906.09826", (512, 1024), "1.66", "70.7", 1_659_071, fps="63", gpu="GTX 1080Ti",
        ),
        "letnet": Published(
            "arXiv:2302.10484", (512, 1024), "0.95", "72.8", 950_672, gmacs="13.6", counted_gmacs=13.959,
            fps="120", gpu="RTX 3090",
            differs="attention's products are 0.30 G of it, and 13.66 G without them are 13.6 cut off",
        ),
        "hrnet": Published(
            "authors' code, github.com/HRNet/HRNet-Semantic-Segmentation, validation images", (1024, 2048), "65.8",
            "81.1", 65_859_379, gmacs="696.2", counted_gmacs=696.176, giga=2**30,
            differs="65.8 is this cut off after one digit",
        ),
    }
)  # fmt: skip
