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
    """Red, green and blue, which are equal for a gray."""

    red: int
    green: int
    blue: int

    @property
    def gray(self) -> bool:
        """Whether the colour is a gray."""
        return self.red == self.green == self.blue

    def __str__(self) -> str:
        """Return the TOML of the colour: the gray value, or ``"#rrggbb"``."""
        return str(self.red) if self.gray else f'"#{bytes(self).hex()}"'


def _colours(values: Any) -> Any:
    """Read one value or a list of values, each an integer or ``#rrggbb``."""
    colours = []
    for value in values if isinstance(values, list | tuple) else [values]:
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

    A palette counts by its colours if a listed ``#rrggbb`` is no gray, otherwise by its indices.
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
        texts = {name: ", ".join(map(str, colours)) for name, colours in self.meanings.items() if colours}
        return ", ".join(f"{name} = [{text}]" if "," in text else f"{name} = {text}" for name, text in texts.items())

    def read(self, path: Path, picture: Picture) -> tuple[Mask, Mask]:
        """Return the foreground and the ignored pixels, each ``(H, W)``.

        Raises:
            UserError: pixels of values that are not listed, transparent pixels, or a JPEG, whose loss changes values.
        """
        if picture.lossy:
            lossy = "a JPEG, whose loss changes values"
            raise UserError(f"{path}: {lossy}; expected those of [values]: save the mask as PNG")
        if picture.alpha is not None:
            raise UserError(
                f"{path}: transparent pixels, of which [values] tells nothing; expected colours alone: flatten it onto "
                "its background and save it without alpha"
            )
        pixels = picture.pixels.astype(np.uint8) if picture.pixels.dtype == np.bool_ else picture.pixels
        if picture.palette is not None and not all(colour.gray for colour in self._listed):
            pixels = picture.palette[pixels]
        background, foreground, ignore = (_any_of(pixels, colours) for colours in self.meanings.values())
        unknown = ~(background | foreground | ignore)
        if unknown.any():
            rest = pixels[unknown]
            raise UserError(
                f"{path}: {len(rest):,} pixels of mask values {listed(colours_of(rest))}; expected those of the "
                f"dataset's [values], {self}: list these there too, or correct the mask"
            )
        return foreground, ignore


def _any_of(pixels: NDArray[Any], colours: Sequence[Colour]) -> Mask:
    """Return the pixels ``(H, W)`` that have one of the colours."""
    if pixels.ndim == 2:
        return np.isin(pixels, [colour.red for colour in colours if colour.gray])
    mask: Mask = np.zeros(pixels.shape[:2], np.bool_)
    for colour in colours:
        mask |= (pixels == colour).all(-1)
    return mask


def distinct(pixels: NDArray[Any]) -> list[int]:
    """Return the values of gray pixels, ascending."""
    values: list[int] = np.flatnonzero(np.bincount(pixels.reshape(-1))).tolist()
    return values


def colours_of(pixels: NDArray[Any]) -> list[Colour]:
    """Return the first colours, ascending, of pixels ``(N,)`` or ``(N, 3)``; at most one more than a message lists."""
    if pixels.ndim == 1:
        return [Colour(value, value, value) for value in distinct(pixels)[: SHOWN + 1]]
    codes = np.unique(pixels.astype(np.int64) @ np.array([2**32, 2**16, 1]))[: SHOWN + 1]
    return [Colour(code >> 32, code >> 16 & 0xFFFF, code & 0xFFFF) for code in codes.tolist()]


def listed(colours: Sequence[Colour]) -> str:
    """Return the text of colours for a message."""
    gray = all(colour.gray for colour in colours)
    texts = [str(colour.red if gray else tuple(colour)) for colour in colours[:SHOWN]]
    return f"{{{', '.join(texts)}{', ...' if len(colours) > SHOWN else ''}}}"


def remedy(colours: Sequence[Colour]) -> str:
    """Say how to read a mask of more than two values: by ``[values]`` where the values are few."""
    if len(colours) > SHOWN or not all(colour.gray or max(colour) < 2**8 for colour in colours):
        return "threshold or recolour the mask first"
    known, others = (colours[:1], colours[1:]) if len(colours) > 1 else ([Colour(0, 0, 0)], colours)
    example = Values(background=tuple(known), foreground=tuple(others))
    if len(colours) == 3:
        example = Values(background=colours[:1], foreground=colours[1:2], ignore=colours[2:])
    return f"recolour the mask, or say below [values] in the dataset's TOML file what they mean, such as {example}"
