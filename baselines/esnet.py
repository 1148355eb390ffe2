"""ESNet: a symmetric encoder and decoder of factorised convolutions.

Units at 1/8 have parallel dilated convolutions.

Paper: Wang et al., "ESNet: An Efficient Symmetric Network for Real-time Semantic Segmentation", PRCV 2019,
https://arxiv.org/abs/1906.09826. Kernel sizes, dilations, dropout rates and the batch norm's eps are those of the
published code, https://github.com/xiaoyufenfei/ESNet.

As published, the three dilated branches of a PFCU share one batch norm. In training, its running statistics change
three times per step, from three distributions. In eval mode, the mixture of the three normalises every branch.

Deviations from the published code, none of which changes a number at a size that divides by 8:

- Sizes that do not divide by 8 are refused; the code pads the pooled half of a down stage and returns a larger map.
- The 1x1 head on the encoder is not built: it is off by default and serves only to train the encoder alone.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from models.blocks import DownsampleConcat, Upsampler, check_input


def factorized(channels: int, kernel_size: int, dilation: int = 1) -> list[nn.Module]:
    """Return a kx1 convolution, a ReLU and a 1xk convolution, with bias, each dilated along its long axis."""
    reach = dilation * (kernel_size // 2)
    return [
        nn.Conv2d(channels, channels, (kernel_size, 1), padding=(reach, 0), dilation=(dilation, 1)),
        nn.ReLU(),
        nn.Conv2d(channels, channels, (1, kernel_size), padding=(0, reach), dilation=(1, dilation)),
    ]


def norm(channels: int) -> nn.BatchNorm2d:
    """Return the batch norm of all units."""
    return nn.BatchNorm2d(channels, eps=1e-3)


def down(in_channels: int, out_channels: int) -> nn.Sequential:
    """Return the stage that halves a map: convolution beside pooling, batch norm, ReLU."""
    return nn.Sequential(DownsampleConcat(in_channels, out_channels, bias=True), norm(out_channels), nn.ReLU())


class FCU(nn.Module):
    """Factorised convolution unit: two kxk convolutions, each split in two, and the input added."""

    def __init__(self, channels: int, kernel_size: int, dropout: float) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            *factorized(channels, kernel_size),
            norm(channels),
            nn.ReLU(),
            *factorized(channels, kernel_size),
            norm(channels),
            nn.Dropout2d(dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, channels, H, W)`` to the same shape."""
        return F.relu(x + self.residual(x))


class PFCU(nn.Module):
    """Parallel factorised convolution unit: three dilated branches, one batch norm shared by all, summed."""

    dilations: ClassVar[tuple[int, ...]] = (2, 5, 9)
    dropout_rate: ClassVar[float] = 0.3

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(*factorized(channels, 3), norm(channels), nn.ReLU())
        self.branches = nn.ModuleList(nn.Sequential(*factorized(channels, 3, dilation)) for dilation in self.dilations)
        self.shared_norm = norm(channels)
        self.dropout = nn.Dropout2d(self.dropout_rate)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, channels, H, W)`` to the same shape."""
        trunk = self.trunk(x)
        for branch in self.branches:
            x = x + self.dropout(self.shared_norm(branch(trunk)))
        return F.relu(x)


class ESNet(nn.Module):
    """ESNet (arXiv:1906.09826), 1,657,687 parameters at one channel and one class.

    Args:
        in_channels: channels of the images.
        classes: channels of the logits.
    """

    size_multiple: ClassVar[int] = 8

    def __init__(self, in_channels: int = 1, classes: int = 1) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.encoder = nn.Sequential(
            down(in_channels, 16),  # 1/2
            *(FCU(16, kernel_size=3, dropout=0.03) for _ in range(3)),
            down(16, 64),  # 1/4
            *(FCU(64, kernel_size=5, dropout=0.03) for _ in range(2)),
            down(64, 128),  # 1/8
            *(PFCU(128) for _ in range(3)),
        )
        self.decoder = nn.Sequential(
            Upsampler(128, 64, nn.ReLU()),  # 1/4
            *(FCU(64, kernel_size=5, dropout=0.0) for _ in range(2)),
            Upsampler(64, 16, nn.ReLU()),  # 1/2
            *(FCU(16, kernel_size=3, dropout=0.0) for _ in range(2)),
            nn.ConvTranspose2d(16, classes, 2, stride=2),  # 1
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``(N, in_channels, H, W)`` to logits ``(N, classes, H, W)``.

        Raises:
            ValueError: for another number of channels, or H or W that does not divide by 8.
        """
        check_input(x, self.in_channels, self.size_multiple)
        logits: Tensor = self.decoder(self.encoder(x))
        return logits
