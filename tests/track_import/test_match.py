"""Claims about which row of a track belongs to which frame of the clip, and about its camera in the crop."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from model.body.track_import.imported import ImportedTrack, still
from model.body.track_import.keypoints import KeypointTrack
from model.body.track_import.place import PlacedTrack
from tasks.artifacts import ClipInfo
from tasks.errors import InputError
from tasks.track_import.match import bridge_rows, choose_keypoints, choose_person, crop_intrinsics, match_frames

FRAMES, WIDTH, HEIGHT = 6, 640, 480
K = np.array([[400.0, 0, 320], [0, 400.0, 240], [0, 0, 1]])


def clip_info() -> ClipInfo:
    """Six frames in a row, the whole picture in a square, the person in its middle."""
    return ClipInfo(
        source="clip.mp4", source_width=WIDTH, source_height=HEIGHT, source_fps=25.0, source_frames=list(range(FRAMES)),
        times=[0.04 * k for k in range(FRAMES)], frame_ids=list(range(FRAMES)), fps=25.0, resolution=320, crop=[0, -80, 640],
        focal_px=400.0, focal_known=False, cx=160.0, cy=160.0, boxes=[[110, 0, 240, 320]] * FRAMES, dropped={}, notes=[],
    )  # fmt: skip


def every_third() -> ClipInfo:
    return replace(clip_info(), source_frames=[0, 3, 6, 9, 12, 15])


def test_rows_are_found_by_the_files_own_frame_numbers() -> None:
    ids = np.array([3, 6, 7, 9, 12])
    assert match_frames(every_third(), 5, ids, "x").rows.tolist() == [-1, 0, 1, 3, 4, -1]


def test_without_numbers_a_row_is_a_frame_of_the_video_or_a_kept_frame() -> None:
    assert match_frames(every_third(), 16, None, "x").rows.tolist() == [0, 3, 6, 9, 12, 15]
    assert match_frames(every_third(), FRAMES, None, "x").rows.tolist() == list(range(FRAMES))
    with pytest.raises(InputError, match="15 rows and no frame numbers"):
        match_frames(every_third(), 15, None, "x")


def test_a_track_of_another_part_of_the_video_is_refused_with_both_ranges() -> None:
    with pytest.raises(InputError, match="frames 100 to 119, the clip uses 0 to 15"):
        match_frames(every_third(), 20, np.arange(100, 120), "x")


def test_gaps_are_bridged_evenly_and_ends_are_held() -> None:
    ids = np.array([3, 9])
    matched = match_frames(replace(every_third(), source_frames=[0, 3, 9]), 2, ids, "x")
    matched = replace(matched, rows=np.array([-1, 0, -1, 1]))
    turn = torch.tensor([[0.0, 0.0, 0.0], [0.0, 1.0, 0.0]], dtype=torch.float64)
    placed = PlacedTrack(torch.zeros(1), turn, torch.zeros(2, 23, 3, dtype=torch.float64), torch.tensor([[0.0, 0, 4], [1.0, 0, 4]]), own_shape=True)
    bridged = bridge_rows(placed, matched, np.array([0.0, 1.0, 1.5, 3.0]))
    assert np.allclose(bridged.transl[:, 0], [0, 0, 0.25, 1])
    assert np.allclose(bridged.global_orient[:, 1], [0, 0, 0.25, 1])
    assert bridged.body_pose.shape == (4, 23, 3)


def test_a_camera_of_the_source_picture_sees_the_same_in_the_crop() -> None:
    clip = replace(clip_info(), crop=[100.0, 20.0, 400.0], resolution=200)
    K = np.array([[800.0, 0, 310], [0, 810.0, 250], [0, 0, 1]])
    point = np.array([0.3, -0.2, 3.0])
    source = (K @ point)[:2] / point[2]
    cropped = crop_intrinsics(K, None, clip, "x") @ point
    assert np.allclose(cropped[:2] / cropped[2], (source - [100, 20]) * 0.5)


def test_a_track_of_a_smaller_copy_of_the_video_fits_and_one_of_another_shape_is_refused() -> None:
    small = np.array([[400.0, 0, 160], [0, 400.0, 120], [0, 0, 1]])
    whole = np.array([[800.0, 0, 320], [0, 800.0, 240], [0, 0, 1]])
    assert np.allclose(crop_intrinsics(small, (320, 240), clip_info(), "x"), crop_intrinsics(whole, None, clip_info(), "x"))
    with pytest.raises(InputError, match="another shape"):
        crop_intrinsics(small, (320, 320), clip_info(), "x")


OURS = np.array([True, False, False, True, False, True])  # in which frames the clip's person comes first in the list


def listed(*, named: bool) -> list[ImportedTrack]:
    """Two people, one in the middle and one beside the picture's left border; in half of the frames the list turns round."""
    return [
        ImportedTrack(
            "x", "smpl", np.zeros((FRAMES, 3)), np.zeros((FRAMES, 23, 3)), np.where(first[:, None], [0.0, 0, 4], [-2.5, 0, 4]), np.zeros(10), K, still(),
            anchor="pelvis", frame_ids=np.arange(FRAMES), person=str(place), named=named, betas_of_rows=np.where(first[:, None], 1.0, -2.0) + np.zeros(10),
        )
        for place, first in enumerate((OURS, ~OURS))
    ]  # fmt: skip


def test_where_a_file_does_not_say_who_is_who_each_frames_entry_in_the_box_is_taken() -> None:
    chosen = choose_person(listed(named=False), clip_info())
    assert np.allclose(chosen.transl, [0, 0, 4]) and np.allclose(chosen.betas, 1)
    assert np.ptp(choose_person(listed(named=True), clip_info()).transl[:, 0]) == 2.5  # the file's word counts
    points = [KeypointTrack("x", track.transl[:, None] + np.zeros((1, 4, 1)), ("a",) * 4, (0.1,) * 4, K, track.frame_ids, "0") for track in listed(named=False)]
    assert np.allclose(choose_keypoints(points, clip_info()).points, [0, 0, 4])


def test_frames_without_the_clips_person_have_no_row() -> None:
    first, second = listed(named=False)
    keep = np.array([0, 1, 3, 4, 5])  # the second place is empty in frame 2, where the person would be
    second = replace(second, **{name: getattr(second, name)[keep] for name in ("global_orient", "body_pose", "transl", "frame_ids", "betas_of_rows")})
    assert choose_person([first, second], clip_info()).frame_ids.tolist() == [0, 1, 3, 4, 5]


def test_rotations_between_rows_turn_the_short_way() -> None:
    half = Rotation.from_rotvec([0, 3.0, 0]).as_rotvec()
    over = Rotation.from_rotvec([0, 3.4, 0]).as_rotvec()
    placed = PlacedTrack(torch.zeros(1), torch.tensor(np.stack([half, over])), torch.zeros(2, 21, 3, dtype=torch.float64), torch.zeros(2, 3), own_shape=True)
    matched = replace(match_frames(clip_info(), FRAMES, None, "x"), rows=np.array([0, -1, 1]))
    middle = bridge_rows(placed, matched, np.array([0.0, 1.0, 2.0])).global_orient[1]
    assert np.allclose(Rotation.from_rotvec(middle.numpy()).as_matrix(), Rotation.from_rotvec([0, 3.2, 0]).as_matrix())
