"""Read a motion from a file, whatever its kind: what is inside decides, not the name.

    AMASS .npz       poses [F, 156 or 165], trans, mocap_framerate; or root_orient, pose_body, mocap_frame_rate   z up
    SMPL .npz        poses [F, 72], trans; or thetas, or global_orient + body_pose + transl                        any axis up
    body track .npz  this project's own: work/<subject>/fit/track.npz or stage1/track.npz                          camera axes
    motion .npz      this project's own, written by save_motion                                                    y up
    AIST++ .pkl      smpl_poses [F, 72], smpl_trans, smpl_scaling                                                  y up
    BVH              HIERARCHY and MOTION; see model/motion/bvh.py

Loading is data-only: pickles go through an allow-list.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from model.body.body_model import load_body_model
from model.body.safe_pickle import UnsafePickleError, load_body_pickle
from model.damaged_files import DAMAGED_NPZ
from model.motion.bvh import read_bvh
from model.motion.motion import Motion, MotionError, check_motion, evened
from model.motion.skeleton import NUM_BODY_JOINTS, Skeleton, Soles, skeleton_with_surface
from model.motion.smpl_arrays import motion_from_rotations
from model.pose import check_tree

KINDS = "AMASS .npz, SMPL .npz (poses and trans), AIST++ .pkl, .bvh, or this project's own track.npz"
AIST_FPS = 60.0
USUAL_FPS = 30.0  # for files that do not tell
MAX_BYTES = 2**31  # of an unpacked array file: a motion has megabytes
RATES = ("mocap_framerate", "mocap_frame_rate", "mocap_frames_rate", "fps", "frame_rate")


def read_motion(path: Path, *, fps: float | None = None) -> Motion:
    """Read a motion, in a motion's world: y up, the floor at 0.

    Args:
        fps: frames per second of the file, when it does not tell or tells wrong.

    Raises:
        MotionError: the file is missing, of another kind, or holds no usable motion.
    """
    if not path.is_file():
        raise MotionError(f"expected a motion file ({KINDS}), found nothing at {path}")
    with path.open("rb") as file:
        start = file.read(512)
    name = path.stem
    if start[:4] == b"PK\x03\x04":
        return _from_arrays(name, _read_npz(path), fps)
    if start.lstrip(b"\xef\xbb\xbf \t\r\n")[:9].upper() == b"HIERARCHY":
        return read_bvh(path, fps=fps)
    if start[:1] == b"\x80" or path.suffix in (".pkl", ".pickle"):
        try:
            return _from_arrays(name, load_body_pickle(path), fps)
        except UnsafePickleError as error:
            raise MotionError(str(error)) from error
    raise MotionError(f"expected a motion file ({KINDS}); {path} begins with {start[:12]!r} and is none of them")


def save_motion(path: Path, motion: Motion) -> None:
    """Write a motion with its skeleton as .npz; `read_motion` reads it back as it is."""
    soles = {f"sole_{name}": getattr(motion.skeleton.soles, name).numpy() for name in ("heel", "ball", "toe")}
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        global_orient=motion.global_orient.numpy(),
        body_pose=motion.body_pose.numpy(),
        transl=motion.transl.numpy(),
        fps=np.array(motion.fps),
        loops=np.array(motion.loops),
        joints_rest=motion.skeleton.joints_rest.numpy(),
        parents=motion.skeleton.parents.numpy(),
        **soles,
    )
    path.write_bytes(buffer.getvalue())


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of numbers and text in an npz; objects are refused."""
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(info.file_size for info in archive.infolist())
            if size > MAX_BYTES:
                raise MotionError(f"{path} unpacks to {size / 1e9:.1f} GB; expected a motion of at most {MAX_BYTES / 1e9:.1f} GB")
        arrays = {}
        with np.load(path, allow_pickle=False) as file:
            for key in file.files:
                try:
                    arrays[key] = file[key]
                except ValueError:  # an array of Python objects, as some files keep for notes
                    continue
        return arrays
    except DAMAGED_NPZ as error:
        if isinstance(error, MotionError):
            raise
        raise MotionError(f"{path} begins like an .npz but does not open: {error}; copy it again from its source") from error


_OWN_FLOATS = ("global_orient", "body_pose", "transl", "joints_rest", "sole_heel", "sole_ball", "sole_toe")


def _from_arrays(name: str, arrays: dict[str, np.ndarray], fps: float | None) -> Motion:
    """Tell the layouts apart by the names of their arrays."""
    has = lambda *keys: all(key in arrays for key in keys)  # noqa: E731
    rate = fps if fps is not None else _rate(arrays)
    if has("joints_rest", "global_orient", "body_pose", "transl", "sole_heel"):
        return _own_motion(name, arrays, fps)
    if has("global_orient", "body_pose", "transl", "betas", "K", "w2c"):
        track = _own_track(name, arrays, rate)
        return track if fps is not None or "times" not in arrays else evened(track, _times(name, arrays["times"], track.num_frames))
    if has("smpl_poses", "smpl_trans"):
        scaling = float(np.asarray(arrays.get("smpl_scaling", 1.0)).reshape(-1)[0])
        if not scaling > 0:
            raise MotionError(f"{name}: expected smpl_scaling above 0, came {scaling}")
        transl = _floats(name, "smpl_trans", arrays["smpl_trans"]) / scaling
        return motion_from_rotations(name, _rotations(name, "smpl_poses", arrays["smpl_poses"]), transl, fps or AIST_FPS)
    trans = next((arrays[key] for key in ("trans", "transl", "translation") if key in arrays), None)
    if trans is None:
        raise MotionError(f"{name}: expected joint rotations and translations ({KINDS}), came arrays named {_names(arrays)}")
    transl = _floats(name, "translations", trans)
    if has("root_orient", "pose_body"):
        root, body = (_rotations(name, key, arrays[key]) for key in ("root_orient", "pose_body"))
        return motion_from_rotations(name, np.concatenate([root, body], axis=1), transl, rate)
    if has("global_orient", "body_pose"):
        root, body = (_rotations(name, key, arrays[key]) for key in ("global_orient", "body_pose"))
        return motion_from_rotations(name, np.concatenate([root, body], axis=1), transl, rate)
    for key in ("poses", "thetas", "pose"):
        if key in arrays:
            return motion_from_rotations(name, _rotations(name, key, arrays[key]), transl, rate)
    raise MotionError(f"{name}: expected joint rotations under poses, thetas, root_orient and pose_body, or global_orient and body_pose; came arrays named {_names(arrays)}")


def _own_motion(name: str, arrays: dict[str, np.ndarray], fps: float | None) -> Motion:
    missing = sorted({*_OWN_FLOATS, "parents", "fps", "loops"} - set(arrays))
    if missing:
        raise MotionError(f"{name}: looks like a motion of this project but lacks {', '.join(missing)}; save it again")
    floats = {key: torch.from_numpy(_floats(name, key, arrays[key])).float() for key in _OWN_FLOATS}
    for key, shape in {"sole_heel": (2, 3), "sole_ball": (2, 3), "sole_toe": (2, 3), "fps": (), "loops": ()}.items():
        if arrays[key].shape != shape:
            raise MotionError(f"{name}: expected {key} {list(shape)}, came {list(arrays[key].shape)}")
    if not all(values.isfinite().all() for values in floats.values()):
        raise MotionError(f"{name}: holds numbers that are not finite")
    soles = Soles(floats["sole_heel"], floats["sole_ball"], floats["sole_toe"])
    parents = torch.from_numpy(_floats(name, "parents", arrays["parents"])).long().reshape(-1)
    try:
        check_tree(parents)
    except ValueError as error:
        raise MotionError(f"{name}: {error}") from error
    if len(parents) < NUM_BODY_JOINTS:
        raise MotionError(f"{name}: expected at least the body's {NUM_BODY_JOINTS} joints, came {len(parents)}")
    if floats["joints_rest"].shape != (len(parents), 3):
        raise MotionError(f"{name}: expected joints_rest [{len(parents)}, 3] as there are parents, came {tuple(floats['joints_rest'].shape)}")
    skeleton = Skeleton(floats["joints_rest"], parents, soles)
    rate = float(_floats(name, "fps", arrays["fps"])) if fps is None else fps
    return check_motion(Motion(name, floats["global_orient"], floats["body_pose"], floats["transl"], rate, bool(arrays["loops"]), skeleton))


def _own_track(name: str, arrays: dict[str, np.ndarray], fps: float) -> Motion:
    """A fitted clip: the person's own bones, in the axes of a camera that stood level."""
    root, body = (_rotations(name, key, arrays[key]) for key in ("global_orient", "body_pose"))
    betas = torch.from_numpy(np.asarray(arrays["betas"])).float()
    skeleton = None
    if str(arrays.get("body", "")) == "open":
        model = load_body_model("open")
        if len(betas) <= model.num_betas:
            shape = torch.cat([betas, torch.zeros(model.num_betas - len(betas))])
            vertices, joints = model.rest(shape)
            skeleton = skeleton_with_surface(joints, model.parents, vertices, model.lbs_weights.argmax(dim=1))
    rotations = np.concatenate([root, body], axis=1)
    return motion_from_rotations(name, rotations, _floats(name, "transl", arrays["transl"]), fps, skeleton=skeleton, always_stands=True)


def _times(name: str, array: np.ndarray, count: int) -> Tensor:
    times = torch.from_numpy(_floats(name, "times", array))
    if times.shape != (count,) or not times.isfinite().all() or (times.diff() < 0).any():
        raise MotionError(f"{name}: expected {count} times that rise, came {list(times.shape)} numbers that do not")
    return times


def _rate(arrays: dict[str, np.ndarray]) -> float:
    for key in RATES:
        if key in arrays and np.asarray(arrays[key]).size == 1:
            try:
                rate = float(np.asarray(arrays[key]).reshape(-1)[0])
            except ValueError:
                continue
            if 0 < rate < 10_000:
                return rate
    return USUAL_FPS


def _rotations(name: str, key: str, array: np.ndarray) -> np.ndarray:
    """Axis-angle as [F, R, 3], from [F, 3 R], [F, R, 3] or matrices [F, R, 3, 3]."""
    values = _floats(name, key, array)
    if values.ndim == 4 and values.shape[-2:] == (3, 3):
        return Rotation.from_matrix(values.reshape(-1, 3, 3)).as_rotvec().reshape(len(values), -1, 3)
    if values.ndim < 2 or 0 in values.shape or int(np.prod(values.shape[1:])) % 3:
        raise MotionError(f"{name}: expected {key} as [frames, 3 x joints], came {array.shape}")
    return values.reshape(len(values), -1, 3)


def _floats(name: str, key: str, array: np.ndarray) -> np.ndarray:
    if not np.issubdtype(array.dtype, np.number) or np.iscomplexobj(array):
        raise MotionError(f"{name}: expected numbers in {key}, came {array.dtype}")
    return np.asarray(array, dtype=np.float64)


def _names(arrays: dict[str, np.ndarray]) -> str:
    return ", ".join(f"{key} {list(np.shape(value))}" for key, value in list(arrays.items())[:12]) or "none at all"
