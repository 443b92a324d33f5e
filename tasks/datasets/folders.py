"""The door to datasets' folders: what is in them, their cameras, pictures and masks, as they were handed out.

Axes: F frames, H x W pixels of the straightened picture. Pictures and masks come straightened by the dataset's own lens.

    People-Snapshot  <subject>.mp4  camera.pkl  masks.hdf5  reconstructed_poses.hdf5             (Alldieck et al. 2018)
    NeuMan           images/  segmentations/  sparse/*.txt  4d_humans/ [sam_segmentations/]      (Jiang et al. 2022; HUGS 2024)
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Float, UInt8

from model.body.safe_pickle import UnsafePickleError
from model.body.track_import.imported import TrackFormatError
from model.body.track_import.smpl_formats import snapshot_camera
from model.lens import Lens
from tasks.artifacts import read_image
from tasks.datasets.splits import PublishedSplit, neuman_split, snapshot_split
from tasks.errors import InputError
from tasks.track_import.read import read_colmap, read_content
from tasks.video_file import frames_of, open_video

NEUMAN_FPS = 10.0  # its scenes do not tell when pictures were taken; only the smoothness of motions depends on it
PERSON = 255
SNAPSHOT_FILES = ("camera.pkl", "masks.hdf5")

Reader = Callable[[list[int]], Iterator[np.ndarray]]


@dataclass(frozen=True)
class Dataset:
    """One subject of a dataset.

    Attributes:
        kind: "people_snapshot" or "neuman". folder, subject: where, and its name.
        width, height: of its pictures, px. K: of the straightened pictures, px with centres at +0.5.
        lens: None where the pictures are straight.
        times: of each frame, s.
        split: None where nobody published one.
        track: the folder's own body track; None where there is none.
        digest: changes when masks, cameras or poses do.
        read_raw_images, read_raw_masks: frames by their numbers, ascending: RGB, and 0..255 with 255 = person, not straightened.
        notes: what a user should know.
    """

    kind: str
    folder: Path
    subject: str
    width: int
    height: int
    K: Float[np.ndarray, "3 3"]
    lens: Lens | None
    times: Float[np.ndarray, "F"]
    split: PublishedSplit | None
    track: Path | None
    digest: str
    read_raw_images: Reader
    read_raw_masks: Reader
    notes: tuple[str, ...] = ()

    def images(self, frames: list[int]) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
        """Straightened pictures."""
        for image in self.read_raw_images(frames):
            yield image if self.lens is None else self.lens.straighten(image)

    def masks(self, frames: list[int]) -> Iterator[UInt8[np.ndarray, "H W"]]:
        """Straightened masks, 255 = person."""
        for mask in self.read_raw_masks(frames):
            yield mask if self.lens is None else self.lens.straighten(mask)


def dataset_kind(path: Path) -> str | None:
    """Which dataset a folder belongs to, told by what it holds; None for anything else."""
    if not path.is_dir():
        return None
    if all((path / name).is_file() for name in SNAPSHOT_FILES):
        return "people_snapshot"
    if (path / "images").is_dir() and (path / "sparse" / "images.txt").is_file() and (path / "sparse" / "cameras.txt").is_file():
        return "neuman"
    return None


def open_dataset(path: Path) -> Dataset:
    """Open a dataset's folder.

    Raises:
        InputError: a file is missing, unsafe, damaged, or does not fit the others.
    """
    kind = dataset_kind(path)
    if kind is None:
        raise InputError(
            f"expected a video file or the folder of a dataset's subject; {path} is neither People-Snapshot's (<subject>.mp4, camera.pkl, "
            f"masks.hdf5, reconstructed_poses.hdf5) nor NeuMan's (images/, segmentations/, sparse/); name one file or one subject"
        )
    return open_snapshot(path) if kind == "people_snapshot" else open_neuman(path)


# ------------------------------------------------------------------------------------------------- People-Snapshot


def open_snapshot(folder: Path) -> Dataset:
    """A subject of People-Snapshot: its video, its lens, its masks and its poses."""
    subject = folder.resolve().name
    videos = sorted(folder.glob("*.mp4"))
    named = [video for video in videos if video.stem == subject]
    if not videos or (len(videos) > 1 and not named):
        raise InputError(f"{folder}: expected {subject}.mp4, found {', '.join(v.name for v in videos) or 'no .mp4'}")
    video = open_video(str((named or videos)[0]))
    try:
        K, _, coefficients, width, height = snapshot_camera(read_content(folder / "camera.pkl"))
    except (TrackFormatError, UnsafePickleError, ValueError) as error:
        raise InputError(f"{folder / 'camera.pkl'}: {error}") from error
    if (video.width, video.height) != (width, height):
        raise InputError(f"{folder}: camera.pkl speaks of {width} x {height} px, {video.path.name} has {video.width} x {video.height}; one of them is of another subject")
    lens = Lens(K, tuple(float(v) for v in np.pad(coefficients, (0, 5))[:5]), width, height)
    if not any(lens.coefficients):
        lens = None
    count = _check_masks(folder / "masks.hdf5", height, width)
    num_frames = min(len(video.times), count)
    notes = [] if count == len(video.times) else [f"{video.path.name} has {len(video.times)} frames and masks.hdf5 {count}: the first {num_frames} are used"]
    poses = folder / "reconstructed_poses.hdf5"

    def read_masks(frames: list[int]) -> Iterator[np.ndarray]:
        with h5py.File(folder / "masks.hdf5", "r") as file:
            for frame in frames:
                yield np.where(file["masks"][frame] > 0, PERSON, 0).astype(np.uint8)

    return Dataset(
        "people_snapshot", folder, subject, width, height, K, lens, video.times[:num_frames], snapshot_split(subject, num_frames),
        folder if poses.is_file() else None, _digest([folder / name for name in SNAPSHOT_FILES] + [poses]),
        lambda frames: frames_of(video.path, np.array(frames)), read_masks, tuple(notes),
    )  # fmt: skip


def _check_masks(path: Path, height: int, width: int) -> int:
    """How many masks there are; they must be in the file itself and as large as the pictures."""
    try:
        with h5py.File(path, "r") as file:
            link = file.get("masks", getlink=True)
            masks = file["masks"] if isinstance(link, h5py.HardLink) else None
            if not isinstance(masks, h5py.Dataset) or masks.external or masks.is_virtual or masks.dtype.kind not in "biu":
                raise InputError(f"{path}: expected a dataset `masks` of whole numbers in the file itself")
            if masks.shape[1:] != (height, width):
                raise InputError(f"{path}: masks are {masks.shape[1:]}, pictures ({height}, {width}); they belong to another subject")
            return int(masks.shape[0])
    except (OSError, KeyError, RuntimeError) as error:
        raise InputError(f"{path} is no hdf5 file that opens: {error}; copy it again") from error


# ---------------------------------------------------------------------------------------------------------- NeuMan


def open_neuman(folder: Path) -> Dataset:
    """A scene of NeuMan: pictures of a moving camera with COLMAP's reconstruction, and masks by Detectron2 or SAM."""
    camera = read_colmap(folder / "sparse")
    pictures = [folder / "images" / name for name in camera["names"]]
    missing = [picture.name for picture in pictures if not picture.is_file()]
    if missing:
        raise InputError(f"{folder / 'images'} lacks {len(missing)} of {len(pictures)} pictures that sparse/images.txt names, the first: {missing[0]}; copy the scene again")
    read_masks, mask_files, notes = _neuman_masks(folder, pictures)
    width, height = camera["width"], camera["height"]
    K = np.asarray(camera["K"], dtype=np.float64)
    lens = Lens(K, tuple(float(v) for v in camera["distortion"]), width, height) if np.any(camera["distortion"]) else None
    try:
        split = _split_files(folder, pictures) or neuman_split(len(pictures))
    except ValueError as error:
        raise InputError(f"{folder}: {error}") from error
    track = folder / "4d_humans" / "smpl_optimized_aligned_scale.npz"

    def read_images(frames: list[int]) -> Iterator[np.ndarray]:
        for frame in frames:
            image = read_image(pictures[frame])
            if image.shape[:2] != (height, width):
                raise InputError(f"{pictures[frame]} has {image.shape[1]} x {image.shape[0]} px, sparse/cameras.txt says {width} x {height}")
            yield np.repeat(image[..., None], 3, 2) if image.ndim == 2 else image[..., :3]

    return Dataset(
        "neuman", folder, folder.resolve().name, width, height, K, lens, np.arange(len(pictures)) / NEUMAN_FPS, split,
        track if track.is_file() else None, _digest([folder / "sparse/images.txt", folder / "sparse/cameras.txt", track, *mask_files]), read_images, read_masks, tuple(notes),
    )  # fmt: skip


def _neuman_masks(folder: Path, pictures: list[Path]) -> tuple[Reader, list[Path], list[str]]:
    """HUGS' masks (255 = person) where the folder has them, else NeuMan's own (255 = background)."""
    hugs = sorted((folder / "4d_humans" / "sam_segmentations").glob("*.png"))
    own = [folder / "segmentations" / picture.name for picture in pictures]
    if len(hugs) == len(pictures):
        files, inverted, note = hugs, False, "masks: 4d_humans/sam_segmentations"
    elif all(file.is_file() for file in own):
        files, inverted, note = own, True, "masks: segmentations (NeuMan's own, cruder than SAM's)"
    else:
        raise InputError(f"{folder}: expected a mask for each of {len(pictures)} pictures, in 4d_humans/sam_segmentations ({len(hugs)} there) or segmentations ({sum(f.is_file() for f in own)} there)")

    def read(frames: list[int]) -> Iterator[np.ndarray]:
        for frame in frames:
            mask = read_image(files[frame])
            mask = mask if mask.ndim == 2 else mask[..., 0]
            yield np.where((mask > 127) != inverted, PERSON, 0).astype(np.uint8)

    return read, files, [note]


def _split_files(folder: Path, pictures: list[Path]) -> PublishedSplit | None:
    """The scene's own train_split.txt and test_split.txt, where it has both."""
    files = [folder / f"{name}_split.txt" for name in ("train", "test")]
    if not all(file.is_file() for file in files):
        return None
    number = {picture.name: i for i, picture in enumerate(pictures)}
    try:
        train, test = ([number[line.strip()] for line in file.read_text().splitlines() if line.strip()] for file in files)
    except KeyError as error:
        raise InputError(f"{folder}: a split file names {error}, which sparse/images.txt does not") from error
    return PublishedSplit(sorted(set(train) - set(test)), sorted(test), "the scene's own train_split.txt and test_split.txt")


def _digest(files: list[Path]) -> str:
    """One hash over files that the frames' pixels do not tell of."""
    digest = hashlib.sha256()
    for file in files:
        if file.is_file():
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()
