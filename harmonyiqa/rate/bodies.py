"""What pages send, checked to the last digit."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class _Body(BaseModel):
    """What a page sends: these names only, of these types only."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Screen(_Body):
    """A rater's screen: sizes in CSS pixels; how many of eight dark and light steps could be told apart."""

    screen_width: int = Field(ge=1, le=100_000)
    screen_height: int = Field(ge=1, le=100_000)
    window_width: int = Field(ge=1, le=100_000)
    window_height: int = Field(ge=1, le=100_000)
    pixel_ratio: float = Field(gt=0, le=32)
    colour_depth: int = Field(ge=1, le=64)
    gamut: Literal["srgb", "p3", "rec2020", "unknown"]
    touch: bool
    dark_steps: int = Field(ge=0, le=8)
    light_steps: int = Field(ge=0, le=8)


class Pause(_Body):
    """Whether to pause or to go on."""

    paused: bool


class Vote(_Body):
    """A vote; see :meth:`harmonyiqa.rate.course.Course.vote`."""

    position: int = Field(ge=1, le=1_000_000_000)
    revision: int = Field(ge=0, le=1_000_000)
    value: int = Field(ge=1, le=9)
    milliseconds: int = Field(ge=0, le=86_400_000)
