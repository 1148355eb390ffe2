"""Embeds panels in the page as data URIs, reduced where they are too large."""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Mapping
from dataclasses import dataclass

from PIL import Image

from benchmark.data.specs import KNOWN, known_first
from benchmark.report.plots.panels import RANKS

#: Pixels across, tried in this order where pictures must shrink; below the last, nothing could be told.
WIDTHS = (1800, 1400, 1100, 850, 650)
QUALITY = 80  # of WebP, above which masks' edges gain nothing that shows
BASE64 = 4 / 3


@dataclass(frozen=True)
class Panel:
    """A picture.

    Attributes:
        file: its name in ``panels/``.
        uri: the picture itself.
    """

    file: str
    dataset: str
    rank: str
    uri: str


def embed(files: Mapping[str, bytes], room: int) -> tuple[list[Panel], list[str]]:
    """Turn pictures into data URIs.

    Args:
        files: name, such as ``omc.hardest.png`` -> content.
        room: characters that all of them may take.

    Returns:
        The panels in the datasets' order, the hardest image first, and the names of those that were left out.
    """

    def order(name: str) -> tuple[tuple[int, str], int, str]:
        dataset, rank = _parts(name)
        return known_first(dataset, KNOWN), RANKS.index(rank) if rank in RANKS else len(RANKS), name

    names = sorted(files, key=order)
    fits = sum(len(content) for content in files.values()) * BASE64 + 64 * len(names) <= room
    shown, left_out = [], []
    for name in names:
        share = room // len(names)
        uri = _uri("png", files[name]) if fits else _smaller(files[name], share)
        if uri:
            shown.append(Panel(name, *_parts(name), uri))
        else:
            left_out.append(name)
    return shown, left_out


def _parts(name: str) -> tuple[str, str]:
    dataset, _, rank = name.removesuffix(".png").rpartition(".")
    return (dataset, rank) if dataset else (rank, "")


def _uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _smaller(content: bytes, most: int) -> str:
    """Return a smaller copy of a picture; blank where none is small enough, or where it is no picture."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(content), formats=["PNG"]).convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        return ""
    for width in WIDTHS:
        copy = picture.copy()
        copy.thumbnail((width, 4 * width), Image.Resampling.LANCZOS)
        file = io.BytesIO()
        copy.save(file, "WEBP", quality=QUALITY)
        if len(uri := _uri("webp", file.getvalue())) <= most:
            return uri
    return ""
