"""What the report's sections on the body, the fit and the filming show; pictures are JPEG."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CoverageRow:
    """One part of the body: shares of its surface, 0..1, and in how many frames the median point of it is seen.

    Attributes:
        seen: in at least one frame; `often` in at least OFTEN. left, right: `seen` of either side; None in the middle.
    """

    part: str
    seen: float
    often: float
    frames: int
    left: float | None
    right: float | None


@dataclass(frozen=True)
class ReportCoverage:
    """What the report shows of the coverage.

    Attributes:
        num_frames: training frames. total: share of the whole surface that any of them saw, 0..1.
        pictures: (view, JPEG). rows: the table.
        colors: of the legend, from one frame to all of them, evenly in the logarithm. never: colour of what no frame saw.
    """

    num_frames: int
    often_frames: int
    total: float
    pictures: list[tuple[str, bytes]]
    rows: list[CoverageRow]
    colors: list[str]
    never: str


@dataclass(frozen=True)
class DoubtSeries:
    """One value over the clip; None where it is not known. `up_is_good` says which end is to be wary of."""

    name: str
    unit: str
    values: list[float | None]
    up_is_good: bool


@dataclass(frozen=True)
class DoubtThumb:
    """One of the worst frames: `row` of the report's frames, why it is here, and a JPEG with what was fitted over it."""

    row: int
    why: str
    picture: bytes


@dataclass(frozen=True)
class ReportDoubts:
    """What the report shows of the doubts.

    Attributes:
        facts: (name, value) over the whole clip.
        doubted: row -> why it is not trusted.
        series: values over the clip. worst: pictures, in the order of time.
    """

    facts: list[tuple[str, str]]
    doubted: dict[int, str]
    series: list[DoubtSeries]
    worst: list[DoubtThumb]


@dataclass(frozen=True)
class Advice:
    """One suggestion: what to do, and what was seen that asks for it."""

    rule: str
    do: str
    seen: str


@dataclass(frozen=True)
class PoseChange:
    """A frame with the avatar's outline before and after its pose was refined.

    Attributes:
        row: of the report's frames. moved_px: mean distance that the joints moved in the frame, px.
        before, after: the frame, cut to the person.
    """

    row: int
    moved_px: float
    before: bytes
    after: bytes
