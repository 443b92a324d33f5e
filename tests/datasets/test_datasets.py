"""Claims about datasets' folders: their frames, masks, cameras and splits, and what is said of a folder that is not whole."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest

from tasks import extract_frames, segment_person
from tasks.artifacts import SubjectPaths, read_clip, read_frame, read_mask, read_segmentation, split_frames
from tasks.choose_subject import check_video_path, subject_name
from tasks.datasets.folders import dataset_kind, open_dataset
from tasks.datasets.frames import dataset_at, dataset_track, extract_dataset, segment_dataset
from tasks.datasets.splits import SNAPSHOT_SPLITS, neuman_split, snapshot_split
from tasks.errors import InputError
from tasks.settings import ExtractFramesSettings, load_settings
from tests.datasets import samples
from tests.datasets.samples import SIDE, snapshot_lens, straight_mask

ROOT = Path(__file__).parents[2]
SNAPSHOT_FRAMES = 470  # the first 446 are published training frames of female-3-casual, every fourth of them


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return samples.people_snapshot(tmp_path_factory.mktemp("people"), SNAPSHOT_FRAMES)


@pytest.fixture
def settings() -> ExtractFramesSettings:
    return load_settings(ROOT / "params.yaml").extract_frames.model_copy(update={"resolution": 64})


@pytest.fixture
def paths(tmp_path: Path) -> SubjectPaths:
    return SubjectPaths(work=tmp_path / "work", results=tmp_path / "results")


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


# ------------------------------------------------------------------------------------------------- People-Snapshot


def test_people_snapshot_is_straightened_pictures_and_masks_alike(snapshot: Path) -> None:
    dataset = open_dataset(snapshot)
    frames = [0, 300]
    for frame, image, mask in zip(frames, dataset.images(frames), dataset.masks(frames), strict=True):
        truth = straight_mask(frame) > 0
        bright = image[..., 0] > 115
        assert iou(mask > 127, truth) > 0.97 and iou(bright, truth) > 0.95
        raw = next(dataset.read_raw_masks([frame])) > 127
        assert iou(raw, truth) < iou(mask > 127, truth) - 0.03, "the lens of this test bends enough to show"


def test_straightening_is_opencvs_own(snapshot: Path) -> None:
    """As InstantAvatar's preprocessing does it, with the camera file as it stands."""
    camera = pickle.loads((snapshot / "camera.pkl").read_bytes())
    K = np.diag([*camera["camera_f"], 1.0])
    K[:2, 2] = camera["camera_c"]
    dataset = open_dataset(snapshot)
    raw, ours = next(dataset.read_raw_masks([40])), next(dataset.masks([40]))
    theirs = cv2.undistort(raw, K, camera["camera_k"])
    inside = np.s_[4:-4, 4:-4]
    assert np.abs(ours[inside].astype(int) - theirs[inside]).mean() < 0.5, "grey values; maps are rounded to a 32nd of a pixel"


def test_the_published_frames_train_and_score(snapshot: Path, paths: SubjectPaths, settings: ExtractFramesSettings) -> None:
    clip = extract_dataset(paths, snapshot, settings)
    segmentation = segment_dataset(paths, clip)
    split = split_frames(read_clip(paths), read_segmentation(paths), heldout_every=6)
    source = np.array(clip.source_frames)
    assert source[split.train].tolist() == list(range(0, 446, 4))
    assert source[split.heldout].tolist() == list(range(446, SNAPSHOT_FRAMES, 4))
    assert segmentation.method == "dataset" and clip.dataset["subject"] == "female-3-casual"
    assert clip.focal_known and clip.times[1] == pytest.approx(4 / 30, abs=1e-3)
    record = json.loads((paths.frames / "clip.json").read_text())
    assert record["dataset"]["heldout"] == split.heldout


def test_frames_masks_and_camera_are_cut_by_one_window(snapshot: Path, paths: SubjectPaths, settings: ExtractFramesSettings) -> None:
    clip = extract_dataset(paths, snapshot, settings)
    segment_dataset(paths, clip)
    bright, mask = read_frame(paths, 5)[..., 0] > 115, read_mask(paths, 5) > 127
    assert iou(bright, mask) > 0.93
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    assert np.abs(np.array(clip.boxes[5]) - [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]).max() < 2
    x0, y0, side = clip.crop
    ray = np.array([0.1, 0.2, 1.0])
    source = snapshot_lens().K @ ray
    expected = (source[:2] - [x0, y0]) * clip.resolution / side
    assert np.abs((clip.K @ ray)[:2] - expected).max() < 0.2, "one focal length for two that differ by a per cent"


def test_a_datasets_own_track_is_used(snapshot: Path, paths: SubjectPaths, settings: ExtractFramesSettings) -> None:
    clip = extract_dataset(paths, snapshot, settings)
    assert dataset_track(clip) == snapshot


def test_the_stages_take_a_folder_for_a_video(
    snapshot: Path, tmp_path: Path, settings: ExtractFramesSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = load_settings(ROOT / "params.yaml")
    subject = whole.subject.model_copy(update={"name": "snap", "video": str(snapshot)})
    whole = whole.model_copy(update={"subject": subject, "extract_frames": settings})
    monkeypatch.chdir(tmp_path)
    for stage in (extract_frames, segment_person):
        monkeypatch.setattr(stage, "load_settings", lambda: whole)
        stage.main()
    made = SubjectPaths(work=tmp_path / "work/snap", results=tmp_path / "results/snap")
    assert len(read_clip(made).frame_ids) == len(list(made.masks.glob("*.png"))) == 112 + 6


def test_every_published_split_keeps_training_and_scoring_apart() -> None:
    for subject in SNAPSHOT_SPLITS:
        split = snapshot_split(subject, 900)
        assert split.train and split.test and not set(split.train) & set(split.test)
    assert "held out here" in snapshot_split("male-2-casual", 900).source
    assert snapshot_split("somebody-else", 900) is None
    assert [len(snapshot_split("male-4-casual", 900).train), len(snapshot_split("male-4-casual", 900).test)] == [110, 36]


def test_a_subject_without_published_frames_is_sampled_evenly(tmp_path: Path, paths: SubjectPaths, settings: ExtractFramesSettings) -> None:
    folder = samples.people_snapshot(tmp_path, 40, subject="male-9-plaza")
    clip = extract_dataset(paths, folder, settings.model_copy(update={"num_frames": 20}))
    segmentation = segment_dataset(paths, clip)
    assert len(clip.frame_ids) == 20 and clip.dataset["heldout"] is None
    assert len(split_frames(clip, segmentation, heldout_every=5).heldout) == 4


# ---------------------------------------------------------------------------------------------------------- NeuMan


@pytest.mark.parametrize("sam", [True, False])
def test_neuman_reads_both_kinds_of_masks_the_right_way_round(tmp_path: Path, sam: bool) -> None:
    dataset = open_dataset(samples.neuman(tmp_path, 25, sam=sam))
    for frame, image, mask in zip([3, 20], dataset.images([3, 20]), dataset.masks([3, 20]), strict=True):
        truth = straight_mask(frame)[SIDE - 72 :] > 0
        assert np.array_equal(mask > 127, truth) and np.array_equal(image[..., 0] > 115, truth)


def test_neumans_rule_sets_every_fifth_aside_and_scores_the_first_half() -> None:
    """A scene of 41 pictures (seattle): as NeuMan's create_split_files gives it."""
    split = neuman_split(41)
    assert split.test == [2, 7, 12, 17]
    assert len(split.train) == 33 and not set(split.train) & {2, 7, 12, 17, 22, 27, 32, 37}


def test_a_scenes_own_split_files_are_kept(tmp_path: Path) -> None:
    folder = samples.neuman(tmp_path, 12)
    (folder / "train_split.txt").write_text("00000.png\n00003.png\n00005.png\n")
    (folder / "test_split.txt").write_text("00001.png\n")
    split = open_dataset(folder).split
    assert (split.train, split.test) == ([0, 3, 5], [1])


def test_neuman_walks_through_the_first_stages(tmp_path: Path, paths: SubjectPaths, settings: ExtractFramesSettings) -> None:
    clip = extract_dataset(paths, samples.neuman(tmp_path, 25), settings)
    segment_dataset(paths, clip)
    assert clip.source_width == SIDE and clip.source_height == 72 and clip.dataset["kind"] == "neuman"
    assert iou(read_frame(paths, 4)[..., 0] > 115, read_mask(paths, 4) > 127) > 0.93
    below = read_mask(paths, 4)[-1]
    assert below.max() == 0 or clip.crop[1] + clip.crop[2] <= 72, "nobody stands beyond the picture"


def test_a_lens_in_colmaps_file_is_straightened_too(tmp_path: Path) -> None:
    assert open_dataset(samples.neuman(tmp_path, 12)).lens is None
    (tmp_path / "bent").mkdir()
    bent = open_dataset(samples.neuman(tmp_path / "bent", 12, distortion="-0.2 0.01 0.0 0.0"))
    assert bent.lens.coefficients == (-0.2, 0.01, 0.0, 0.0, 0.0)
    assert not np.array_equal(next(bent.masks([0])), next(bent.read_raw_masks([0])))


# ------------------------------------------------------------------------------------------------------- bad input


def test_a_folder_that_is_no_dataset_says_what_one_looks_like(tmp_path: Path) -> None:
    assert dataset_at(str(tmp_path / "clip.mp4")) is None and dataset_kind(tmp_path) is None
    with pytest.raises(InputError, match="masks.hdf5.*segmentations"):
        dataset_at(str(tmp_path))


def test_choosing_a_datasets_folder_names_the_subject_after_it(snapshot: Path, tmp_path: Path) -> None:
    assert check_video_path(str(snapshot)) == snapshot and subject_name(snapshot) == "female-3-casual"
    with pytest.raises(InputError, match="one subject of People-Snapshot"):
        check_video_path(str(tmp_path))


def test_a_camera_file_that_asks_for_code_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    class Calls:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'trace'}",)

    folder = samples.people_snapshot(tmp_path, 20)
    (folder / "camera.pkl").write_bytes(pickle.dumps({"camera_f": Calls()}, protocol=2))
    with pytest.raises(InputError, match="refused"):
        open_dataset(folder)
    assert not (tmp_path / "trace").exists()


def test_masks_of_another_subject_are_refused(tmp_path: Path) -> None:
    folder = samples.people_snapshot(tmp_path, 20)
    with h5py.File(folder / "masks.hdf5", "w") as file:
        file["masks"] = np.zeros((20, 64, 64), np.uint8)
    with pytest.raises(InputError, match="another subject"):
        open_dataset(folder)


def test_masks_that_lie_outside_their_file_are_refused(tmp_path: Path) -> None:
    folder = samples.people_snapshot(tmp_path, 20)
    (folder / "masks.hdf5").rename(tmp_path / "elsewhere.hdf5")
    with h5py.File(folder / "masks.hdf5", "w") as file:
        file["masks"] = h5py.ExternalLink(str(tmp_path / "elsewhere.hdf5"), "masks")
    with pytest.raises(InputError, match="in the file itself"):
        open_dataset(folder)


def test_a_scene_that_lacks_pictures_or_masks_says_how_many(tmp_path: Path) -> None:
    folder = samples.neuman(tmp_path, 12, sam=False)
    (folder / "segmentations/00004.png").unlink()
    with pytest.raises(InputError, match="mask for each of 12.*11 there"):
        open_dataset(folder)
    (folder / "images/00004.png").unlink()
    with pytest.raises(InputError, match="lacks 1 of 12 pictures.*00004"):
        open_dataset(folder)
