"""A small motion of the open body, and writers that lay it out as each program does, with that program's own conventions.

The writers are the adapters' opposites, written from the programs' documentation: a camera-space motion goes in, a file comes
out. As programs use SMPL's bodies, whose files cannot ship here, places are told from SMPL's mean pelvis.
"""

from __future__ import annotations

import collections
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import joblib
import numpy as np
import pickle
import torch
from scipy.spatial.transform import Rotation

from model.body.track_import.imported import MEAN_PELVIS
from model.body.track_import.keypoints import MHR70

FRAMES, WIDTH, HEIGHT, FOCAL = 6, 640, 480, 900.0


@dataclass(frozen=True)
class Motion:
    """Camera axes; `pelvis` is the root joint's place. 23 joints beside the root."""

    orient: np.ndarray
    pose: np.ndarray
    pelvis: np.ndarray

    def transl(self, family: str = "smpl") -> np.ndarray:
        return self.pelvis - np.array(MEAN_PELVIS[family])

    @property
    def whole(self) -> np.ndarray:
        return np.concatenate([self.orient, self.pose.reshape(len(self.pose), -1)], 1)


def make_motion() -> Motion:
    """Someone upright before the camera (y down), turning and waving; hands are unbent, as SMPL-X cannot tell them."""
    random = np.random.default_rng(5)
    turn = np.linspace(0.1, 1.0, FRAMES)
    orient = (Rotation.from_rotvec([np.pi, 0, 0]) * Rotation.from_rotvec(np.stack([0 * turn, turn, 0.1 * turn], 1))).as_rotvec()
    pose = np.zeros((FRAMES, 23, 3))
    first, last = random.normal(0, 0.15, (2, 21, 3))
    pose[:, :21] = first + np.linspace(0, 1, FRAMES)[:, None, None] * (last - first)
    pelvis = np.array([0.1, 0.05, 4.0]) + np.cumsum(random.normal(0, 0.02, (FRAMES, 3)), 0)
    return Motion(orient, pose, pelvis)


def camera(focal: float = FOCAL) -> np.ndarray:
    return np.array([[focal, 0, WIDTH / 2], [0, focal, HEIGHT / 2], [0, 0, 1.0]])


def camera_from_pixel_middles() -> np.ndarray:
    """The same, counted from the middle of the first pixel as InstantAvatar and People-Snapshot do."""
    return camera() - np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])


def some_world() -> np.ndarray:
    """A camera that is not at the origin of its world."""
    w2c = np.eye(4)
    w2c[:3, :3] = Rotation.from_rotvec([2.9, 0.2, -0.1]).as_matrix()
    w2c[:3, 3] = [0.3, -0.2, 1.5]
    return w2c


def in_world(motion: Motion, w2c: np.ndarray, family: str = "smpl", scale: np.ndarray | float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Root rotation and SMPL translation in the world of cameras w2c ([4, 4] or [F, 4, 4]), `scale` units a metre."""
    back = np.linalg.inv(np.broadcast_to(w2c, (FRAMES, 4, 4)))
    scale = np.broadcast_to(np.asarray(scale, dtype=float), (FRAMES,))[:, None]
    orient = (Rotation.from_matrix(back[:, :3, :3]) * Rotation.from_rotvec(motion.orient)).as_rotvec()
    pelvis = np.einsum("fij,fj->fi", back[:, :3, :3], scale * motion.pelvis) + back[:, :3, 3]
    return orient, pelvis - scale * np.array(MEAN_PELVIS[family])


def smplx_pose(motion: Motion) -> np.ndarray:
    """The 21 body joints, then jaw, eyes and fingers with something in them that SMPL has no place for."""
    return np.concatenate([motion.pose[:, :21], np.full((FRAMES, 33, 3), 0.05)], 1)


# -------------------------------------------------------------------------------------------------------- one a program


def gaussian_avatar(folder: Path, motion: Motion) -> Path:
    orient, transl = in_world(motion, some_world())
    whole = np.concatenate([orient, motion.pose.reshape(FRAMES, -1)], 1)
    torch.save({"beta": torch.zeros(1, 10), "body_pose": torch.from_numpy(whole), "trans": torch.from_numpy(transl)}, folder / "smpl_parms.pth")
    np.savez(folder / "cam_parms.npz", intrinsic=camera(), extrinsic=some_world()[:3])
    return folder / "smpl_parms.pth"


def gaussian_avatar_smplx(folder: Path, motion: Motion) -> Path:
    orient, transl = in_world(motion, some_world(), "smplx")
    whole = np.concatenate([orient, smplx_pose(motion).reshape(FRAMES, -1)], 1)
    torch.save({"beta": torch.zeros(1, 10), "body_pose": torch.from_numpy(whole), "trans": torch.from_numpy(transl)}, folder / "smpl_parms.pth")
    np.savez(folder / "cam_parms.npz", intrinsic=camera(), extrinsic=some_world())
    return folder


def instant_avatar_thetas(folder: Path, motion: Motion) -> Path:
    orient, transl = in_world(motion, some_world())
    np.savez(folder / "poses.npz", betas=np.zeros((1, 10)), thetas=np.concatenate([orient, motion.pose.reshape(FRAMES, -1)], 1), transl=transl)
    np.savez(folder / "cameras.npz", intrinsic=camera_from_pixel_middles(), extrinsic=some_world(), height=HEIGHT, width=WIDTH)
    return folder


def instant_avatar(folder: Path, motion: Motion) -> Path:
    orient, transl = in_world(motion, some_world())
    np.savez(folder / "poses_optimized.npz", betas=np.zeros((1, 10)), global_orient=orient, body_pose=motion.pose.reshape(FRAMES, -1), transl=transl)
    np.savez(folder / "cameras.npz", intrinsic=camera_from_pixel_middles(), extrinsic=some_world(), height=HEIGHT, width=WIDTH)
    return folder / "poses_optimized.npz"


def people_snapshot(folder: Path, motion: Motion) -> Path:
    w2c = some_world()
    orient, transl = in_world(motion, w2c)
    record = {
        "camera_f": np.array([FOCAL, FOCAL]), "camera_c": np.array([WIDTH / 2 - 0.5, HEIGHT / 2 - 0.5]), "camera_k": np.zeros(5),
        "camera_rt": Rotation.from_matrix(w2c[:3, :3]).as_rotvec(), "camera_t": w2c[:3, 3], "width": WIDTH, "height": HEIGHT,
    }  # fmt: skip
    (folder / "camera.pkl").write_bytes(pickle.dumps(record, protocol=2))
    with h5py.File(folder / "reconstructed_poses.hdf5", "w") as file:
        file["betas"], file["pose"], file["trans"] = np.zeros(10), np.concatenate([orient, motion.pose.reshape(FRAMES, -1)], 1), transl
    return folder


def neuman(folder: Path, motion: Motion) -> Path:
    """A camera that moves, in a world whose unit is not the metre; the last two pictures are listed first."""
    scale = np.linspace(1.7, 1.9, FRAMES)
    w2c = np.stack([some_world()] * FRAMES)
    w2c[:, 0, 3] += np.linspace(0, 0.4, FRAMES)
    orient, transl = in_world(motion, w2c, scale=scale)
    (folder / "sparse").mkdir()
    (folder / "4d_humans").mkdir()
    values = f"{FOCAL} {FOCAL} {WIDTH / 2} {HEIGHT / 2}"
    (folder / "sparse/cameras.txt").write_text(f"# Camera list with one line of data per camera:\n#\n# Number of cameras: 1\n1 PINHOLE {WIDTH} {HEIGHT} {values}\n")
    lines = ["# Image list with two lines of data per image:"]
    for i in [*range(FRAMES - 2, FRAMES), *range(FRAMES - 2)]:
        x, y, z, w = Rotation.from_matrix(w2c[i, :3, :3]).as_quat()
        lines += [f"{i + 1} {w} {x} {y} {z} {' '.join(map(str, w2c[i, :3, 3]))} 1 {i:05d}.png", "1.0 2.0 -1"]
    (folder / "sparse/images.txt").write_text("\n".join(lines) + "\n")
    np.savez(
        folder / "4d_humans/smpl_optimized_aligned_scale.npz", global_orient=orient, body_pose=motion.pose.reshape(FRAMES, -1),
        betas=np.zeros((FRAMES, 10)), transl=transl, scale=scale,
    )  # fmt: skip
    return folder


def romp(folder: Path, motion: Motion) -> Path:
    """A video's results, nested one a frame, in an object array; a second person without a body beside the first."""
    nested = {}
    for i in range(FRAMES):
        nested[f"{i:08d}.jpg"] = {
            "smpl_thetas": np.stack([motion.whole[i], 0 * motion.whole[i]]).astype(np.float32), "smpl_betas": np.zeros((2, 11), np.float32),
            "cam": np.zeros((2, 3)), "cam_trans": np.stack([motion.transl()[i], [-1.5, 0.1, 4.0]]).astype(np.float32), "track_ids": np.array([7, 9], np.int32),
        }  # fmt: skip
    np.savez(folder / "video_results.npz", results=nested, sequence_results={})
    return folder / "video_results.npz"


def phalp(folder: Path, motion: Motion) -> Path:
    """joblib, compressed; frames hold boxes that were only predicted (ghosts), and rotations are matrices."""
    content = {}
    for i in range(FRAMES):
        turns = Rotation.from_rotvec(motion.whole[i].reshape(24, 3)).as_matrix().astype(np.float32)
        smpl = {"betas": np.zeros(10, np.float32), "global_orient": turns[None, 0], "body_pose": turns[1:]}
        ghost = {"betas": np.zeros(10), "global_orient": np.eye(3)[None], "body_pose": np.stack([np.eye(3)] * 23)}
        content[f"out/video/img/{i + 1:06d}.jpg"] = {
            "time": i, "shot": 0, "frame_path": "x", "tracked_ids": [1], "tid": [4, 1], "tracked_time": [3, 0], "bbox": [np.zeros(4)] * 2,
            "size": [[HEIGHT, WIDTH]] * 2, "smpl": [ghost, smpl], "camera": [np.zeros(3), motion.transl()[i]], "mask": [None, {"counts": b"1"}],
        }  # fmt: skip
    joblib.dump(content, folder / "demo.pkl", compress=3)
    return folder / "demo.pkl"


def wham(folder: Path, motion: Motion) -> Path:
    results = collections.defaultdict(dict)
    results[0] = {"pose": np.zeros((2, 72)), "trans": np.full((2, 3), 5.0), "betas": np.zeros((2, 10)), "frame_ids": np.arange(2)}
    results[1] = {
        "pose": motion.whole, "trans": motion.transl(), "pose_world": 0 * motion.whole, "trans_world": 0 * motion.pelvis,
        "betas": np.zeros((FRAMES, 10)), "verts": np.zeros((2, 5, 3)), "frame_ids": np.arange(FRAMES),
    }  # fmt: skip
    joblib.dump(results, folder / "wham_output.pkl")
    return folder


def tram(folder: Path, motion: Motion) -> Path:
    """Tensors in a pickled npy under hps/, the camera one folder above."""
    (folder / "hps").mkdir()
    turns = torch.from_numpy(Rotation.from_rotvec(motion.whole.reshape(-1, 3)).as_matrix().reshape(FRAMES, 24, 3, 3)).float()
    track = {
        "pred_cam": torch.zeros(FRAMES, 3), "pred_shape": torch.zeros(FRAMES, 10), "pred_rotmat": turns,
        "pred_trans": torch.from_numpy(motion.transl())[:, None].float(), "frame": torch.arange(FRAMES),
    }  # fmt: skip
    np.save(folder / "hps/hps_track_0.npy", track, allow_pickle=True)
    np.save(folder / "camera.npy", {"img_focal": np.float32(FOCAL), "img_center": np.array([WIDTH / 2, HEIGHT / 2])}, allow_pickle=True)
    return folder / "hps/hps_track_0.npy"


def gvhmr(folder: Path, motion: Motion) -> Path:
    params = {
        "body_pose": torch.from_numpy(motion.pose[:, :21].reshape(FRAMES, 63)), "global_orient": torch.from_numpy(motion.orient),
        "transl": torch.from_numpy(motion.transl("smplx")), "betas": torch.zeros(FRAMES, 10),
    }  # fmt: skip
    elsewhere = params | {"transl": torch.full((FRAMES, 3), 9.0)}
    K = torch.from_numpy(camera()).expand(FRAMES, 3, 3).clone()
    torch.save({"smpl_params_incam": params, "smpl_params_global": elsewhere, "K_fullimg": K, "net_outputs": {"x": torch.zeros(2)}}, folder / "hmr4d_results.pt")
    return folder


def prompt_hmr(folder: Path, motion: Motion) -> Path:
    w2c = np.stack([some_world()] * FRAMES)
    w2c[:, 2, 3] += np.linspace(0, 0.3, FRAMES)
    orient, transl = in_world(motion, w2c, "smplx")
    pose = np.concatenate([orient, smplx_pose(motion).reshape(FRAMES, -1)], 1)
    world = {"pose": torch.from_numpy(pose).float(), "shape": torch.zeros(FRAMES, 10), "trans": torch.from_numpy(transl).float()}
    cameras = {"Rcw": w2c[:, :3, :3], "Tcw": w2c[:, :3, 3], "img_focal": FOCAL, "img_center": np.array([WIDTH / 2, HEIGHT / 2])}
    joblib.dump({"people": {1: {"frames": np.arange(FRAMES), "smplx_world": world}}, "camera_world": cameras}, folder / "results.pkl")
    return folder


def multi_hmr(folder: Path, motion: Motion) -> Path:
    frames = []
    for i in range(FRAMES):
        rotvec = np.concatenate([motion.orient[i][None], motion.pose[i, :21], np.full((31, 3), 0.05)])
        frames.append([{
            "rotvec": torch.from_numpy(rotvec), "shape": torch.zeros(10), "expression": torch.zeros(10), "transl": torch.full((3,), 7.0),
            "transl_pelvis": torch.from_numpy(motion.pelvis[i])[None], "K": camera(),
        }])  # fmt: skip
    (folder / "multi_hmr.pkl").write_bytes(pickle.dumps(frames))
    return folder / "multi_hmr.pkl"


def easymocap(folder: Path, motion: Motion) -> Path:
    """One json a frame; the root turns about the origin: x = R v + Th."""
    w2c = some_world()
    orient, transl = in_world(motion, w2c)
    pelvis = np.array(MEAN_PELVIS["smpl"])
    Th = transl + pelvis - Rotation.from_rotvec(orient).apply(pelvis)
    poses = folder / "smpl"
    poses.mkdir()
    for i in range(FRAMES):
        person = {"id": 0, "Rh": [orient[i].tolist()], "Th": [Th[i].tolist()], "poses": [[0.0] * 3 + motion.pose[i].reshape(-1).tolist()], "shapes": [[0.0] * 10]}
        (poses / f"{i:06d}.json").write_text(json.dumps([person]))
    matrix = lambda a: f"!!opencv-matrix\n   rows: {len(a)}\n   cols: {len(a[0])}\n   dt: d\n   data: {np.asarray(a).reshape(-1).tolist()}"  # noqa: E731
    (folder / "intri.yml").write_text(f'%YAML:1.0\n---\nnames:\n  - "01"\nK_01: {matrix(camera())}\ndist_01: {matrix(np.zeros((1, 5)))}\n')
    R, T = w2c[:3, :3], w2c[:3, 3:]
    (folder / "extri.yml").write_text(f'%YAML:1.0\n---\nnames:\n  - "01"\nR_01: {matrix(Rotation.from_matrix(R).as_rotvec()[:, None])}\nRot_01: {matrix(R)}\nT_01: {matrix(T)}\n')
    return folder


SIDE = max(WIDTH, HEIGHT)
# writer -> what the program calls itself here, and the focal length that its numbers imply
PROGRAMS: dict[Callable[[Path, Motion], Path], tuple[str, float]] = {
    gaussian_avatar: ("GaussianAvatar", FOCAL),
    gaussian_avatar_smplx: ("GaussianAvatar", FOCAL),
    instant_avatar: ("InstantAvatar", FOCAL),
    instant_avatar_thetas: ("InstantAvatar", FOCAL),
    people_snapshot: ("People-Snapshot", FOCAL),
    neuman: ("NeuMan", FOCAL),
    romp: ("ROMP", 443.4 / 512 * SIDE),
    phalp: ("4D-Humans (PHALP)", 5000 / 256 * SIDE),
    wham: ("WHAM", float(np.hypot(WIDTH, HEIGHT))),
    tram: ("TRAM", FOCAL),
    gvhmr: ("GVHMR", FOCAL),
    prompt_hmr: ("PromptHMR", FOCAL),
    multi_hmr: ("Multi-HMR", FOCAL),
    easymocap: ("EasyMocap", FOCAL),
}


def sam3d(folder: Path, landmarks: np.ndarray, names: list[str]) -> Path:
    """SAM 3D Body's output a frame, from where our landmarks are [F, 33, 3]; points relative to pred_cam_t."""
    frames = []
    for points in landmarks:
        place = points.mean(0)
        keypoints = np.zeros((70, 3))
        for name, (index, _) in MHR70.items():
            keypoints[index] = points[names.index(name)] - place
        frames.append([{"pred_keypoints_3d": keypoints, "pred_cam_t": place, "focal_length": np.float32(FOCAL), "pred_vertices": np.zeros((4, 3)), "mhr_model_params": np.zeros(204)}])
    joblib.dump(frames, folder / "sam3d.pkl")
    return folder / "sam3d.pkl"
