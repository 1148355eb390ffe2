"""Reads masks by the values that a dataset's TOML file lists below ``[values]``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from benchmark.utils.errors import UserError

if TYPE_CHECKING:
    from benchmark.data.formats.images import Picture

Mask = NDArray[np.bool_]
SHOWN = 8  # values that a message lists
COLOUR = re.compile("#[0-9a-f]{6}")


class Colour(NamedTuple):
    """Red, green and blue; of a gray, thrice the same."""

    red: int
    green: int
    blue: int

    @property
    def gray(self) -> bool:
        """Whether it is no more than a gray value."""
        return self.red == self.green == self.blue

    def __str__(self) -> str:
        """Return what TOML calls it: the gray value, or ``"#rrggbb"``."""
        return str(self.red) if self.gray else f'"#{bytes(self).hex()}"'


def _colours(found: Any) -> Any:
    """Read one value or a list of values, each an integer or ``#rrggbb``."""
    colours = []
    for value in found if isinstance(found, list | tuple) else [found]:
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**16:
            colours.append(Colour(value, value, value))
        elif isinstance(value, str) and COLOUR.fullmatch(value.lower()):
            colours.append(Colour(*bytes.fromhex(value[1:])))
        elif isinstance(value, Colour):
            colours.append(value)
        else:
            raise ValueError(f"expected values from 0 to 65535 or colours such as '#ffff00', found {value!r}")
    return tuple(colours)


Colours = Annotated[tuple[Colour, ...], BeforeValidator(_colours)]


class Values(BaseModel):
    """Meanings of a mask's values: integers of gray masks and indices of palettes, or colours ``#rrggbb``.

    A palette counts by its colours as soon as one ``#rrggbb`` that is no gray is listed, otherwise by its indices.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    background: Annotated[Colours, Field(min_length=1)]
    foreground: Annotated[Colours, Field(min_length=1)]
    ignore: Colours = ()

    @model_validator(mode="after")
    def _one_meaning_each(self) -> Self:
        for colour in self._listed:
            if self._listed.count(colour) > 1:
                raise ValueError(f"{colour} is listed twice; expected one meaning for each value")
        return self

    @property
    def meanings(self) -> dict[str, tuple[Colour, ...]]:
        """The values of each meaning."""
        return {"background": self.background, "foreground": self.foreground, "ignore": self.ignore}

    @property
    def _listed(self) -> list[Colour]:
        return [colour for colours in self.meanings.values() for colour in colours]

    def __str__(self) -> str:
        """Return the values as TOML."""
        lists = {name: ", ".join(map(str, colours)) for name, colours in self.meanings.items() if colours}
        return ", ".join(f"{name} = [{few}]" if "," in few else f"{name} = {few}" for name, few in lists.items())

    def read(self, path: Path, picture: Picture) -> tuple[Mask, Mask]:
        """Return the foreground and the ignored pixels, each ``(H, W)``.

        Raises:
            UserError: pixels of values that are not listed, transparent ones, or a JPEG, whose loss changes values.
        """
        if picture.lossy:
            raise UserError(
                f"{path}: a JPEG, whose loss changes values; expected those of [values]: save the mask as PNG"
            )
        if picture.alpha is not None:
            raise UserError(
                f"{path}: transparent pixels, of which [values] tells nothing; expected colours alone: flatten it onto "
                "its background and save it without alpha"
            )
        pixels = picture.pixels.astype(np.uint8) if picture.pixels.dtype == np.bool_ else picture.pixels
        if picture.palette is not None and not all(colour.gray for colour in self._listed):
            pixels = picture.palette[pixels]
        masks = {name: _any_of(pixels, colours) for name, colours in self.meanings.items()}
        unknown = ~(masks["background"] | masks["foreground"] | masks["ignore"])
        if unknown.any():
            rest = pixels[unknown]
            raise UserError(
                f"{path}: {len(rest):,} pixels of mask values {listed(found_in(rest))}; expected those of the "
                f"dataset's [values], {self}: list these there too, or correct the mask"
            )
        return masks["foreground"], masks["ignore"]


def _any_of(pixels: NDArray[Any], colours: Sequence[Colour]) -> Mask:
    found: Mask = np.zeros(pixels.shape[:2], np.bool_)
    for colour in colours:
        if pixels.ndim == 3:
            found |= (pixels == colour).all(-1)
        elif colour.gray:
            found |= pixels == colour.red
    return found


def distinct(pixels: NDArray[Any]) -> list[int]:
    """Return the values of gray pixels, ascending."""
    values: list[int] = np.flatnonzero(np.bincount(pixels.reshape(-1))).tolist()
    return values


def found_in(pixels: NDArray[Any]) -> list[Colour]:
    """Return the colours of pixels, gray ``(N,)`` or colours ``(N, 3)``, ascending; one more than a message lists."""
    if pixels.ndim == 1:
        return [Colour(value, value, value) for value in distinct(pixels)[: SHOWN + 1]]
    codes = np.unique(pixels.astype(np.int64) @ np.array([2**32, 2**16, 1]))[: SHOWN + 1]
    return [Colour(code >> 32, code >> 16 & 0xFFFF, code & 0xFFFF) for code in codes.tolist()]


def listed(colours: Sequence[Colour]) -> str:
    """Return colours as a message lists them."""
    gray = all(colour.gray for colour in colours)
    texts = [str(colour.red if gray else tuple(colour)) for colour in colours[:SHOWN]]
    return f"{{{', '.join(texts)}{', ...' if len(colours) > SHOWN else ''}}}"


def remedy(colours: Sequence[Colour]) -> str:
    """Say how a mask of other values than two can be read: by ``[values]`` where these are few."""
    if len(colours) > SHOWN or not all(colour.gray or max(colour) < 2**8 for colour in colours):
        return "threshold or recolour the mask first"
    known, others = (colours[:1], colours[1:]) if len(colours) > 1 else ([Colour(0, 0, 0)], colours)
    example = Values(background=tuple(known), foreground=tuple(others))
    if len(colours) == 3:
        example = Values(background=colours[:1], foreground=colours[1:2], ignore=colours[2:])
    return f"recolour the mask, or say below [values] in the dataset's TOML file what they mean, such as {example}"
