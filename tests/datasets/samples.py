"""Tiny folders in the datasets' own layout: a disc for a person, a lens that bends, a camera that moves."""

from __future__ import annotations

import pickle
from pathlib import Path

import av
import cv2
import h5py
import numpy as np
from scipy.spatial.transform import Rotation

from model.lens import Lens

SIDE, FOCAL = 96, 120.0
BENT = (-0.30, 0.05, 0.002, -0.001, 0.0)


def snapshot_lens() -> Lens:
    K = np.array([[FOCAL, 0, SIDE / 2 + 1.5], [0, FOCAL * 1.01, SIDE / 2 - 0.5], [0, 0, 1.0]])
    return Lens(K, BENT, SIDE, SIDE)


def straight_mask(frame: int) -> np.ndarray:
    """A disc that walks to the right, 1 = person, as a lens without bend would see it; big, and off the middle, so that a bend shows."""
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    return ((x - 24 - 0.05 * frame) ** 2 + (y - 68) ** 2 < 20**2).astype(np.uint8)


def bend(picture: np.ndarray, lens: Lens) -> np.ndarray:
    """A straight picture as the lens films it: each bent pixel looks up where its ray lies, the opposite of straightening."""
    y, x = np.mgrid[: lens.height, : lens.width].astype(np.float64) + 0.5
    rays = cv2.undistortPoints(np.stack([x.ravel(), y.ravel()], 1)[:, None], lens.K, np.array(lens.coefficients)).reshape(-1, 2)
    source = rays * np.diag(lens.K)[:2] + lens.K[:2, 2] - 0.5
    maps = source.reshape(lens.height, lens.width, 2).astype(np.float32)
    return cv2.remap(picture, maps[..., 0], maps[..., 1], cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)


def picture(mask: np.ndarray) -> np.ndarray:
    """A bright person before a dark wall, RGB."""
    return np.where(mask[..., None] > 0, np.array([200, 120, 60]), np.array([30, 40, 50])).astype(np.uint8)


def write_video(path: Path, frames: list[np.ndarray], fps: int = 30) -> None:
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=fps, options={"crf": "12"})
        stream.width, stream.height, stream.pix_fmt = frames[0].shape[1], frames[0].shape[0], "yuv420p"
        for image in frames:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        file.mux(stream.encode())


def people_snapshot(root: Path, num_frames: int, subject: str = "female-3-casual") -> Path:
    folder = root / subject
    folder.mkdir()
    lens = snapshot_lens()
    masks = np.stack([bend(straight_mask(frame), lens) for frame in range(num_frames)])
    write_video(folder / f"{subject}.mp4", [picture(mask) for mask in masks])
    record = {
        "camera_f": np.diag(lens.K)[:2], "camera_c": lens.K[:2, 2] - 0.5, "camera_k": np.array(BENT), "camera_rt": np.zeros(3),
        "camera_t": np.zeros(3), "width": SIDE, "height": SIDE,
    }  # fmt: skip
    (folder / "camera.pkl").write_bytes(pickle.dumps(record, protocol=2))
    with h5py.File(folder / "masks.hdf5", "w") as file:
        file.create_dataset("masks", data=masks, compression="gzip")
    with h5py.File(folder / "reconstructed_poses.hdf5", "w") as file:
        file["betas"], file["pose"], file["trans"] = np.zeros(10), np.zeros((num_frames, 72)), np.zeros((num_frames, 3)) + [0, 0, 3.0]
    return folder


def neuman(root: Path, num_frames: int, *, sam: bool = True, distortion: str = "") -> Path:
    """Pictures of 96 x 72 px; COLMAP lists them in another order; masks of both kinds."""
    folder = root / "citron"
    for name in ("images", "segmentations", "sparse", "4d_humans/sam_segmentations"):
        (folder / name).mkdir(parents=True)
    width, height = SIDE, 72
    model = "OPENCV" if distortion else "PINHOLE"
    (folder / "sparse/cameras.txt").write_text(f"# Camera list\n# x\n# Number of cameras: 1\n1 {model} {width} {height} {FOCAL} {FOCAL} {width / 2} {height / 2} {distortion}\n")
    lines = ["# Image list"]
    for frame in np.random.default_rng(0).permutation(num_frames):
        x, y, z, w = Rotation.from_rotvec([0, 0.01 * frame, 0]).as_quat()
        lines += [f"{frame + 1} {w} {x} {y} {z} {0.1 * frame} 0 0 1 {frame:05d}.png", "0.0 0.0 -1"]
    (folder / "sparse/images.txt").write_text("\n".join(lines))
    for frame in range(num_frames):
        mask = straight_mask(frame)[SIDE - height :]
        cv2.imwrite(str(folder / f"images/{frame:05d}.png"), picture(mask)[..., ::-1])
        cv2.imwrite(str(folder / f"segmentations/{frame:05d}.png"), np.where(mask, 0, 255).astype(np.uint8))
        if sam:
            cv2.imwrite(str(folder / f"4d_humans/sam_segmentations/mask_{frame:04d}.png"), mask * 255)
    np.savez(
        folder / "4d_humans/smpl_optimized_aligned_scale.npz", global_orient=np.zeros((num_frames, 3)), body_pose=np.zeros((num_frames, 69)),
        betas=np.zeros((num_frames, 10)), transl=np.zeros((num_frames, 3)) + [0, 0, 3.0], scale=np.full(num_frames, 1.5),
    )  # fmt: skip
    return folder
