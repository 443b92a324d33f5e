"""Claims about segment_person: which method runs, what is cleaned, and which masks are flagged."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from model.fitting.landmarks import PoseLandmarks
from model.fitting.mask_checks import find_implausible, largest_part
from tasks import segment_person
from tasks.artifacts import ClipInfo, Segmentation, SubjectPaths, read_landmarks, read_mask, read_segmentation
from tasks.errors import InputError
from tasks.picture_borders import shown_pixels
from tasks.settings import SegmentPersonSettings

TAIJI = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "taiji.mp4"
needs_taiji = pytest.mark.skipif(not TAIJI.is_file(), reason=f"needs a real clip at {TAIJI}")


def settings(**changes: object) -> SegmentPersonSettings:
    values = dict(method="auto", rembg_model="u2net_human_seg", rembg_home=None, max_flagged_share=0.5)
    return SegmentPersonSettings(**(values | changes))


def clip_info(num_frames: int, *, crop: tuple[float, float, float], resolution: int, boxes: list[list[float]]) -> ClipInfo:
    return ClipInfo(source="clip.mp4", source_width=100, source_height=80, source_fps=10.0,
                    source_frames=list(range(num_frames)), times=[0.1 * i for i in range(num_frames)],
                    frame_ids=list(range(num_frames)), fps=10.0, resolution=resolution, crop=list(crop), focal_px=100.0,
                    focal_known=False, cx=50.0, cy=40.0, boxes=boxes, dropped={}, notes=[])  # fmt: skip


def block(x0: int, y0: int, x1: int, y1: int, size: int = 100) -> np.ndarray:
    mask = np.zeros((size, size), np.float32)
    mask[y0:y1, x0:x1] = 1
    return mask


# -------------------------------------------------------------------------------------------------------------- flags

BOX = np.array([40.0, 20.0, 60.0, 80.0])
EVERYWHERE = np.ones((100, 100), bool)


@pytest.mark.parametrize(
    ("mask", "reason"),
    [
        (np.zeros((100, 100), np.float32), "empty"),
        (block(50, 50, 53, 53), "covers 0.09% of the picture"),
        (block(2, 2, 98, 98), "covers 92% of the picture"),
        (block(5, 20, 25, 80), "overlaps the landmarks' box by 0%"),
        (block(40, 60, 60, 100), "overlaps the landmarks' box by"),
        (block(40, 20, 60, 50), "its area is 0.50 times that of its neighbours"),
    ],
)
def test_an_implausible_mask_is_flagged_with_its_reason(mask: np.ndarray, reason: str):
    masks = np.stack([block(40, 20, 60, 80)] * 7)
    masks[3] = mask
    flagged = find_implausible(masks, np.tile(BOX, (7, 1)), shown=lambda row: EVERYWHERE)
    assert list(flagged) == [3] and flagged[3].startswith(reason)


def test_sound_masks_are_not_flagged():
    masks = np.stack([block(40 - i, 20, 60 + i, 80) for i in range(7)])
    assert find_implausible(masks, np.tile(BOX, (7, 1)), shown=lambda row: EVERYWHERE) == {}


def test_a_person_cut_off_by_the_picture_is_flagged_and_shoes_on_its_border_are_not():
    inside = EVERYWHERE.copy()
    inside[80:] = False
    shoes = block(40, 20, 60, 76)
    shoes[76:80, 42:47] = shoes[76:80, 53:56] = 1
    assert find_implausible(np.stack([shoes] * 3), np.tile(BOX, (3, 1)), shown=lambda row: inside) == {}
    cut = find_implausible(np.stack([block(40, 20, 60, 80)] * 3), np.tile(BOX, (3, 1)), shown=lambda row: inside)
    assert len(cut) == 3 and "runs along the picture's border for 33%" in cut[0]


def test_too_many_flags_end_the_stage_with_the_first_reason():
    boxes = [BOX.tolist()] * 4
    clip = clip_info(4, crop=(0, 0, 80), resolution=100, boxes=boxes)
    masks = np.stack([block(40, 20, 60, 80), *[np.zeros((100, 100), np.float32)] * 3])
    found = segment_person.Segmented(masks, [None] * 4, {0: "hidden"}, Segmentation("landmarks", "pose_landmark_full", {}))
    with pytest.raises(InputError, match="4 of 4 masks by pose_landmark_full .*frame 0: hidden"):
        segment_person.judge_masks(found, clip, settings())
    _, judged = segment_person.judge_masks(found, clip, settings(max_flagged_share=1.0))
    assert judged.flagged == {"0": "hidden", "1": "empty", "2": "empty", "3": "empty"}


def test_masks_end_at_the_border_of_the_source_picture():
    clip = clip_info(1, crop=(-20, 10, 100), resolution=50, boxes=[[0, 0, 50, 50]])  # source 100 x 80
    inside = shown_pixels(clip, 0)
    assert not inside[:, :10].any() and inside[:35, 10:].all() and not inside[35:].any()


# ----------------------------------------------------------------------------------------------------------- cleaning


def test_the_person_is_the_part_that_shares_most_with_the_landmarks_mask():
    mask = np.maximum(block(5, 5, 45, 95), block(60, 30, 80, 70))
    assert np.array_equal(largest_part(mask)[:, :50], mask[:, :50])
    kept = largest_part(mask, seed=block(60, 25, 80, 75))
    assert kept[:, :50].sum() == 0 and np.array_equal(kept[:, 50:], mask[:, 50:])


def test_pinholes_are_filled_and_gaps_between_limbs_stay():
    mask = block(20, 10, 80, 90)
    mask[50, 50] = 0
    mask[60:80, 40:50] = 0
    kept = largest_part(mask)
    assert kept[50, 50] == 1 and kept[60:80, 40:50].sum() == 0


# ------------------------------------------------------------------------------------------------------------ methods


class NoDetector:
    def segment(self, image: np.ndarray, person: PoseLandmarks) -> np.ndarray: ...


def test_auto_falls_back_to_landmarks_and_says_why(tmp_path: Path, capsys: pytest.CaptureFixture):
    _, method = segment_person.choose_segmenter(NoDetector(), settings(rembg_home=str(tmp_path)))
    assert method.method == "landmarks"
    assert capsys.readouterr().out == f"segmentation: landmarks (BlazePose), u2net_human_seg.onnx is not in {tmp_path}\n"


def test_rembg_without_weights_is_refused_with_the_place_for_them(tmp_path: Path):
    with pytest.raises(InputError, match=f"expected u2net_human_seg.onnx in {tmp_path}, found none; put the weights there"):
        segment_person.choose_segmenter(NoDetector(), settings(method="rembg", rembg_home=str(tmp_path)))


@pytest.mark.parametrize("place", ["u2net_human_seg.onnx", "models/u2net_human_seg/u2net_human_seg.onnx"])
def test_weights_are_found_where_rembg_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str):
    monkeypatch.setenv("U2NET_HOME", str(tmp_path))
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / place).write_bytes(b"weights")
    assert segment_person.find_rembg_weights(settings()) == tmp_path / place


def tiny_network() -> bytes:
    """An ONNX network that averages the colour channels, 1x3x320x320 -> 1x1x320x320, spelled in protobuf by hand."""

    def number(value: int) -> bytes:
        low, high = value & 127, value >> 7
        return bytes([low | 128]) + number(high) if high else bytes([low])

    def field(tag: int, value: int | bytes | str) -> bytes:
        if isinstance(value, int):
            return number(tag << 3) + number(value)
        content = value.encode() if isinstance(value, str) else value
        return number(tag << 3 | 2) + number(len(content)) + content

    def tensor(name: str, *shape: int) -> bytes:
        dims = b"".join(field(1, field(1, size)) for size in shape)
        return field(1, name) + field(2, field(1, field(1, 1) + field(2, dims)))

    axes = field(1, "axes") + field(8, 1) + field(20, 7)  # AttributeProto: ints
    node = field(1, "in") + field(2, "out") + field(4, "ReduceMean") + field(5, axes)
    ends = field(11, tensor("in", 1, 3, 320, 320)) + field(12, tensor("out", 1, 1, 320, 320))
    graph = field(1, node) + field(2, "tiny") + ends
    return field(1, 8) + field(7, graph) + field(8, field(2, 17))


@pytest.mark.slow
def test_rembg_runs_a_network_for_real(tmp_path: Path, capsys: pytest.CaptureFixture):
    (tmp_path / "u2net_human_seg.onnx").write_bytes(tiny_network())
    segmenter, method = segment_person.choose_segmenter(NoDetector(), settings(rembg_home=str(tmp_path)))
    assert (method.method, method.model) == ("rembg", "u2net_human_seg")
    assert "segmentation: rembg with u2net_human_seg" in capsys.readouterr().out
    image = np.zeros((200, 150, 3), np.uint8)
    image[50:150, 40:110] = 255
    mask = segmenter(image, None)
    assert mask.shape == (200, 150) and mask[100, 75] > 0.99 and mask[20, 20] < 0.01
    assert not segmenter(np.full((200, 150, 3), 90, np.uint8), None).any()  # a constant prediction is no person


@needs_taiji
def test_a_real_clip_gets_masks_of_the_man(tmp_path: Path):
    capture = cv2.VideoCapture(str(TAIJI))
    images = np.stack([cv2.cvtColor(capture.read()[1][40:710, 310:980], cv2.COLOR_BGR2RGB) for _ in range(4)])
    images = np.stack([cv2.resize(image, (256, 256), interpolation=cv2.INTER_AREA) for image in images])
    found = segment_person.segment_clip(images, settings(method="landmarks"))
    clip = clip_info(4, crop=(0, 0, 80), resolution=256, boxes=found.boxes.tolist())
    masks, segmentation = segment_person.judge_masks(found, clip, settings())
    assert segmentation.flagged == {} and 0.1 < (masks > 0.5).mean() < 0.3
    assert ((masks > 0.05) & (masks < 0.95)).mean() < 0.03  # a thin soft edge
    paths = SubjectPaths(tmp_path / "work", tmp_path / "results")
    segment_person.write_masks(paths, masks, found.people, clip, segmentation)
    assert read_segmentation(paths) == segmentation
    assert np.array_equal(read_landmarks(paths).points[1], found.people[1].points)
    assert np.abs(read_mask(paths, 2) / 255 - masks[2]).max() <= 0.5 / 255 + 1e-6


@needs_taiji
def test_the_pixels_of_others_are_taken_out():
    capture = cv2.VideoCapture(str(TAIJI))
    man = [cv2.cvtColor(capture.read()[1][40:710, 440:860], cv2.COLOR_BGR2RGB) for _ in range(2)]
    two = np.stack([cv2.resize(np.concatenate([m, m[:, ::-1]], axis=1), (420, 336), interpolation=cv2.INTER_AREA) for m in man])
    left = [[0.0, 0.0, 210.0, 336.0]] * 2
    found = segment_person.segment_clip(two, settings(method="landmarks"), guides=left, crowded=True)
    assert all(person.box[2] < 215 for person in found.people) and found.covered == {}
    own, theirs = (found.masks[..., half] > 0.5 for half in (slice(0, 210), slice(210, 420)))
    assert own.mean() > 0.15 and theirs.mean() < 0.005


def test_frames_beside_a_hidden_person_are_flagged_too():
    flagged = segment_person.with_neighbours({0: "hidden", 3: "hidden"}, 5)
    assert sorted(flagged) == [0, 1, 2, 3, 4] and flagged[3] == "hidden" and "frame beside" in flagged[4]
    assert segment_person.with_neighbours({}, 5) == {}
