"""Defines the types of settings: strict groups, shares, sides and tables by dataset."""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Number = TypeVar("Number", bound=int)


def _no_standins(values: dict[str, Number]) -> dict[str, Number]:
    for name in values:
        if name.endswith("-syn"):
            raise ValueError(f"{name!r} would never be read: a stand-in follows {name.removesuffix('-syn')!r}")
    return values


Share = Annotated[float, Field(ge=0.0, lt=1.0)]
Side = Annotated[int, Field(ge=8)]  # pixels; the least multiple that EAL-ICNet takes
Count = Annotated[int, Field(ge=1)]
Images = Annotated[int, Field(ge=3)]  # one image each for train, validation and test
Determinism = Literal["seeded", "deterministic"]
ByDataset = Annotated[dict[str, Number], AfterValidator(_no_standins)]


class SettingsModel(BaseModel):
    """A frozen group of settings that refuses unknown fields."""

    # Strict: `lr = true` would otherwise be a learning rate of 1.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
