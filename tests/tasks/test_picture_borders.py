"""Claims about the border of the filmed picture in the frames that are cut from it: where it lies, and whom it cuts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tasks.artifacts import ClipInfo
from tasks.picture_borders import cut_edges, shown_pixels

SIZE, LEAST = 128, 2.5


def a_clip(crop: list[float], to_filmed: np.ndarray | None = None) -> ClipInfo:
    """A frame of a video of 200 x 100 px."""
    return ClipInfo(
        source="clip.mp4", source_width=200, source_height=100, source_fps=25.0, source_frames=[0], times=[0.0], frame_ids=[0], fps=25.0,
        resolution=SIZE, crop=crop, focal_px=200.0, focal_known=False, cx=64.0, cy=64.0, boxes=[[0.0, 0.0, 9.0, 9.0]], dropped={}, notes=[],
        to_filmed=None if to_filmed is None else [to_filmed.tolist()],
    )  # fmt: skip


def cut(rows: slice, columns: slice, clip: ClipInfo) -> list[str]:
    """Which edges cut a person who fills these pixels."""
    mask = np.zeros((SIZE, SIZE), bool)
    mask[rows, columns] = True
    return cut_edges(mask, clip, 0, least=LEAST)


def test_the_edge_of_the_video_cuts_and_the_edge_of_the_frame_does_not() -> None:
    """The frame shows source rows -14 to 114 of 100, one to one: the video's bottom is row 114 of the frame."""
    clip = a_clip([20, -14, 128])
    assert cut(slice(30, 114), slice(40, 60), clip) == ["bottom"]
    assert cut(slice(30, 113), slice(40, 60), clip) == []
    assert cut(slice(14, 90), slice(40, 60), clip) == ["top"]
    assert cut(slice(30, 90), slice(0, 60), clip) == [], "the video goes on to the left of the frame"
    assert cut(slice(30, 90), slice(0, 60), a_clip([0, -14, 128])) == ["left"]
    assert cut(slice(30, 90), slice(70, 128), a_clip([72, -14, 128])) == ["right"]


def test_a_stray_pixel_at_the_border_is_no_cut() -> None:
    assert cut(slice(30, 114), slice(40, 42), a_clip([20, -14, 128])) == []


def test_the_border_moves_with_a_camera_that_is_steadied() -> None:
    """The frame as it was filmed lay 10 px to the left and 4 px up, and shrinks to the right."""
    moved = np.array([[1.0, 0, 10], [0, 1, 4], [0, 0, 1]])
    clip = a_clip([20, -14, 128], moved)
    assert np.array_equal(shown_pixels(clip, 0)[:, 5], (np.arange(SIZE) >= 10) & (np.arange(SIZE) < 110))
    assert cut(slice(30, 110), slice(40, 60), clip) == ["bottom"] and cut(slice(30, 109), slice(40, 60), clip) == []
    slanted = replace(clip, to_filmed=[[[1.0, 0, 0], [0, 1, 0], [0.002, 0, 1]]])
    shown = shown_pixels(slanted, 0)
    assert shown[:, 0].sum() < shown[:, -1].sum()
    behind = replace(a_clip([20, 10, 60]), to_filmed=(-np.eye(3))[None].tolist())  # the same pixels, by a camera that looks the other way
    assert shown_pixels(a_clip([20, 10, 60]), 0).all() and not shown_pixels(behind, 0).any()
