"""The door to other programs' body tracks: which file holds what, told by its content, loaded as data only.

Everything becomes containers and arrays: npz and npy (arrays of objects through the allow-list), pickles and joblib (the
same), torch files (weights only), json, hdf5 and OpenCV's yml. What stands beside a file and belongs to it (a camera file) is
read with it. The formats themselves are known in `model/body/track_import`.
"""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from scipy.spatial.transform import Rotation

from model.body.data_pickle import MAX_UNPACKED_BYTES, load_data, load_data_npy
from model.body.safe_pickle import UnsafePickleError
from model.body.track_import.imported import ImportedTrack, TrackFormatError
from model.body.track_import.keypoints import KeypointTrack, read_sam3d, sam3d_people
from model.body.track_import.smpl_formats import SMPL_FORMATS, Format
from model.body.track_import.smplx_formats import SMPLX_FORMATS
from tasks.errors import InputError

SAM3D = Format("SAM 3D Body", lambda content, _: len(sam3d_people(content)) > 0, read_sam3d)
FORMATS = (SAM3D, *SMPLX_FORMATS, *SMPL_FORMATS)
MAX_FILE_BYTES = 2**31
# names that a folder's track has, in the order in which they are looked for
TRACK_FILES = (
    "poses_optimized.npz", "poses.npz", "smpl_parms.pth", "train/smpl_parms.pth", "4d_humans/smpl_optimized_aligned_scale.npz",
    "reconstructed_poses.hdf5", "hmr4d_results.pt", "wham_output.pkl", "results.pkl", "video_results.npz", "hps/hps_track_0.npy", "hps_track_0.npy",
)  # fmt: skip
KNOWN = "GaussianAvatar, InstantAvatar, People-Snapshot, NeuMan, ROMP/BEV, 4D-Humans/PHALP, WHAM, TRAM, GVHMR, PromptHMR, Multi-HMR, EasyMocap, SAM 3D Body"
POSE_JSON_FOLDERS = ("smpl", "output-smpl-3d/smpl", "output/smpl")


@dataclass(frozen=True)
class TrackFile:
    """What a file held.

    Attributes:
        path: of the file or folder. format: its format's name.
        people: one track each; keypoints where the topology is another.
    """

    path: Path
    format: str
    people: list[ImportedTrack] | list[KeypointTrack]


def read_track_file(path: Path, size: tuple[int, int]) -> TrackFile:
    """Read a body track of any known format.

    Args:
        path: a file, or the folder that a program left.
        size: width and height of the source video, px.

    Raises:
        InputError: it is missing, unsafe, of no known format, or lacks what is needed.
    """
    if not path.exists():
        raise InputError(f"expected a body track ({KNOWN}), found nothing at {path}; mend fit_smpl.import in params.yaml")
    file = find_track(path)
    try:
        content = read_poses_folder(file) if file.is_dir() else read_content(file)
        beside = read_beside(file)
        for known in FORMATS:
            if known.matches(content, beside):
                return TrackFile(file, known.name, known.read(content, beside, size))
    except (TrackFormatError, UnsafePickleError) as error:
        raise InputError(f"{file}: {error}") from error
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{file} looks like a body track but does not read as one ({type(error).__name__}: {error}); export it again") from error
    raise InputError(f"{file} is none of the body tracks that are read: {KNOWN}. It holds {describe_content(content)}")


def find_track(path: Path) -> Path:
    """The track's file; of a folder, the file that is known by name, or the folder of EasyMocap's json files.

    Raises:
        InputError: the folder has none.
    """
    if path.is_file():
        return path
    found = next((path / name for name in TRACK_FILES if (path / name).is_file()), None)
    folders = [path, *(path / name for name in POSE_JSON_FOLDERS)]
    found = found or next((folder for folder in folders if any(folder.glob("[0-9]*.json"))), None)
    if found is None:
        raise InputError(f"expected a body track in the folder {path}, found none of {', '.join(TRACK_FILES)} nor numbered .json files; name the file itself")
    return found


def read_content(path: Path) -> object:
    """A file's content, by what its bytes are rather than by its name.

    Raises:
        InputError: it is too large, empty, or of no kind that is read.
        UnsafePickleError: a pickle asks for code.
    """
    size = path.stat().st_size
    if size == 0 or size > MAX_FILE_BYTES:
        raise InputError(f"{path} has {size} bytes, expected 1 to {MAX_FILE_BYTES}")
    start = path.open("rb").read(16)
    if start[:8] == b"\x89HDF\r\n\x1a\n":
        return read_hdf5(path)
    if start[:6] == b"\x93NUMPY":
        return _unboxed(load_data_npy(io.BytesIO(path.read_bytes())))
    if start[:4] == b"PK\x03\x04":
        return _read_zip(path)
    if start[:1] in (b"{", b"["):
        return read_json_file(path)
    if start[:1] == b"\x80" and _is_legacy_torch(path):
        return _read_torch(path)
    try:
        return load_data(path.read_bytes())
    except UnsafePickleError as error:
        raise UnsafePickleError(f"{error}; nothing of the file was run") from error


def read_beside(file: Path) -> dict[str, object]:
    """Camera files that belong to a track, by name; OpenCV's yml pair as "camera", a reconstruction as "colmap"."""
    folder = file if file.is_dir() else file.parent
    found: dict[str, object] = {}
    for place in (folder, folder.parent, folder.parent.parent):
        for name in ("cam_parms.npz", "cameras.npz", "camera.npz", "camera.npy", "camera.pkl"):
            if name not in found and (place / name).is_file():
                found[name] = read_content(place / name)
        if "camera" not in found and (place / "intri.yml").is_file() and (place / "extri.yml").is_file():
            found["camera"] = read_opencv_camera(place / "intri.yml", place / "extri.yml")
        if "colmap" not in found and (place / "sparse" / "cameras.txt").is_file():
            found["colmap"] = read_colmap(place / "sparse")
    return found


def read_poses_folder(folder: Path) -> dict[str, object]:
    """EasyMocap's folder: one json a frame."""
    return {path.stem: read_json_file(path) for path in sorted(folder.glob("[0-9]*.json"))}


def read_json_file(path: Path) -> object:
    """A json file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no valid json: {error}") from error


def read_hdf5(path: Path) -> dict[str, np.ndarray]:
    """The top datasets of an hdf5 file; what lies outside the file (external links and storage) is not followed."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            arrays = {}
            for name in file:
                link = file.get(name, getlink=True)
                if not isinstance(link, h5py.HardLink) or not isinstance(file[name], h5py.Dataset):
                    continue
                dataset = file[name]
                if dataset.external or dataset.is_virtual or dataset.dtype.kind not in "biuf":
                    continue
                if dataset.size * dataset.dtype.itemsize > MAX_UNPACKED_BYTES:
                    raise InputError(f"{path}: {name} unpacks to more than {MAX_UNPACKED_BYTES} bytes")
                arrays[name] = dataset[()]
            return arrays
    except (OSError, RuntimeError, KeyError) as error:
        raise InputError(f"{path} is no hdf5 file that opens: {error}") from error


def read_opencv_camera(intri: Path, extri: Path) -> dict[str, np.ndarray]:
    """The first camera of EasyMocap's intri.yml and extri.yml: K, w2c and distortion."""
    files = [cv2.FileStorage(str(path), cv2.FILE_STORAGE_READ) for path in (intri, extri)]
    names = files[0].getNode("names")
    name = names.at(0).string() if not names.empty() and names.size() else ""
    K, R, T = (file.getNode(f"{key}_{name}").mat() for file, key in ((files[0], "K"), (files[1], "Rot"), (files[1], "T")))
    distortion = files[0].getNode(f"dist_{name}").mat()
    turn = files[1].getNode(f"R_{name}").mat()
    if R is None and turn is not None:
        R = Rotation.from_rotvec(np.asarray(turn, dtype=np.float64).reshape(3)).as_matrix()
    if K is None or R is None or T is None:
        raise InputError(f"{intri} and {extri}: expected K_{name}, Rot_{name} (or R_{name}) and T_{name} of the first of `names`")
    w2c = np.eye(4)
    w2c[:3, :3], w2c[:3, 3] = R, np.asarray(T).reshape(3)
    return {"K": np.asarray(K, dtype=np.float64), "w2c": w2c, "distortion": np.zeros(5) if distortion is None else np.asarray(distortion).reshape(-1)}


def read_colmap(sparse: Path) -> dict[str, object]:
    """COLMAP's text files: one camera, and the pose of each picture in the order of their names.

    https://colmap.github.io/format.html#text-format: CAMERA_ID MODEL WIDTH HEIGHT PARAMS; IMAGE_ID QW QX QY QZ TX TY TZ
    CAMERA_ID NAME, every second line a list of points.

    Raises:
        InputError: another camera model than those of NeuMan's scenes, or lines that do not read.
    """
    try:
        lines = [line.split() for line in (sparse / "cameras.txt").read_text().splitlines() if line and not line.startswith("#")]
        model, width, height, values = lines[0][1], int(lines[0][2]), int(lines[0][3]), [float(v) for v in lines[0][4:]]
        text = [line for line in (sparse / "images.txt").read_text().splitlines() if not line.startswith("#")]
        rows = sorted((line.split() for line in text[0::2] if line.strip()), key=lambda row: row[9])
        quaternions = np.array([[float(v) for v in (row[2], row[3], row[4], row[1])] for row in rows])
        places = np.array([[float(v) for v in row[5:8]] for row in rows])
    except (OSError, IndexError, ValueError, UnicodeDecodeError) as error:
        raise InputError(f"{sparse} is no COLMAP reconstruction in text form (cameras.txt, images.txt): {error}") from error
    K = np.eye(3)
    if model in ("SIMPLE_RADIAL", "SIMPLE_PINHOLE", "RADIAL"):
        K[0, 0] = K[1, 1] = values[0]
        K[:2, 2], distortion = values[1:3], [*values[3:], 0.0, 0.0, 0.0, 0.0][:2] + [0.0, 0.0, 0.0]
    elif model in ("PINHOLE", "OPENCV"):
        K[0, 0], K[1, 1], K[0, 2], K[1, 2] = values[:4]
        distortion = [*values[4:8], 0.0, 0.0, 0.0, 0.0, 0.0][:5]
    else:
        raise InputError(f"{sparse / 'cameras.txt'}: camera model {model}; expected SIMPLE_RADIAL, PINHOLE or OPENCV")
    w2c = np.broadcast_to(np.eye(4), (len(rows), 4, 4)).copy()
    w2c[:, :3, :3], w2c[:, :3, 3] = Rotation.from_quat(quaternions).as_matrix(), places
    return {"K": K, "w2c": w2c, "distortion": np.array(distortion), "width": width, "height": height, "names": [row[9] for row in rows]}


def describe_content(content: object) -> str:
    """What a file holds, in a few words, for an error message."""
    if isinstance(content, Mapping):
        keys = [str(key) for key in list(content)[:8]]
        return f"a mapping with {len(content)} keys ({', '.join(keys)}{', ...' if len(content) > 8 else ''})"
    if isinstance(content, list):
        return f"a list of {len(content)}"
    shape = getattr(content, "shape", None)
    return f"{type(content).__name__}{'' if shape is None else f' of shape {tuple(shape)}'}"


def _unboxed(value: object) -> object:
    """A pickled object in an array without axes is the object."""
    return value.item() if isinstance(value, np.ndarray) and value.dtype == object and value.shape == () else value


def _read_zip(path: Path) -> object:
    """An npz, or a torch file: both are zip archives."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if sum(info.file_size for info in archive.infolist()) > MAX_UNPACKED_BYTES:
                raise InputError(f"{path} unpacks to more than {MAX_UNPACKED_BYTES} bytes")
            if any(name.endswith("data.pkl") for name in names):
                return _read_torch(path)
            return {name.removesuffix(".npy"): _unboxed(load_data_npy(io.BytesIO(archive.read(name)))) for name in names if name.endswith(".npy")}
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, EOFError) as error:
        raise InputError(f"{path} is no whole archive: {error}; copy it again") from error


def _is_legacy_torch(path: Path) -> bool:
    """Whether a pickle is torch's old container, which begins with a magic number."""
    return b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19." in path.open("rb").read(32)


def _read_torch(path: Path) -> object:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UnsafePickleError(f"this torch file holds more than tensors and containers, or is damaged ({reason}); nothing of it was run") from error
