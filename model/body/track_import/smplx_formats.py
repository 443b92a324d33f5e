"""Files of SMPL-X poses: GVHMR, PromptHMR and Multi-HMR; see `smpl_formats` for the form.

Axes: F rows. The layouts are facts from the programs' public sources: GVHMR (tools/demo/demo.py), PromptHMR
(pipeline/world.py), Multi-HMR (model.py, blocks/smpl_layer.py).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from model.body.track_import.imported import SMPLX_JOINTS, ImportedTrack, TrackFormatError, intrinsics, one_shape, picture_around, still
from model.body.track_import.smpl_formats import Beside, Format, Size, _frame_number, array, find_beside, keyed

K_SPREAD = 0.01  # of the focal length over a clip, share, that still counts as one camera
MULTI_HMR_JOINTS = 53  # root, 21 of the body, 15 of each hand, jaw


def _read_gvhmr(content: object, beside: Beside, size: Size) -> list[ImportedTrack]:
    """`smpl_params_incam`, one row a video frame; the path in the world (`smpl_params_global`) has another origin and is not used."""
    name, values = "GVHMR", content["smpl_params_incam"]
    K = array(content["K_fullimg"]).reshape(-1, 3, 3)
    if np.ptp(K[:, 0, 0]) > K_SPREAD * K[0, 0, 0]:
        raise TrackFormatError(f"{name}: the focal length changes from {K[:, 0, 0].min():.0f} to {K[:, 0, 0].max():.0f} px; expected one camera")
    root = array(values["global_orient"]).reshape(-1, 3)
    pose = array(values["body_pose"]).reshape(len(root), -1, 3)
    K = np.median(K, axis=0)
    return [
        ImportedTrack(
            name, "smplx", root, pose, array(values["transl"]).reshape(-1, 3), one_shape(array(values["betas"])), K, still(),
            frame_ids=np.arange(len(root)), **picture_around(K, size),
        )
    ]  # fmt: skip


def _read_prompt_hmr(content: object, beside: Beside, size: Size) -> list[ImportedTrack]:
    """Poses in a world with its floor at 0, y up, and one camera a frame; 3:66 is the body, 75:120 and 120:165 the hands."""
    name, camera = "PromptHMR", content["camera_world"]
    Rcw, Tcw = array(camera["Rcw"]).reshape(-1, 3, 3), array(camera["Tcw"]).reshape(-1, 3)
    center = array(camera["img_center"]).reshape(2)
    K = intrinsics(float(array(camera["img_focal"]).mean()), *center)
    tracks = []
    for person, values in content["people"].items():
        if not keyed(values, "smplx_world", "frames"):
            continue
        ids, world = array(values["frames"]).reshape(-1).astype(int), values["smplx_world"]
        pose = array(world["pose"]).reshape(len(ids), -1)
        if pose.shape[1] != 3 * (SMPLX_JOINTS + 1):
            raise TrackFormatError(f"{name}: rows of {pose.shape[1]} pose numbers, expected {3 * (SMPLX_JOINTS + 1)}")
        if ids.max(initial=0) >= len(Rcw):
            raise TrackFormatError(f"{name}: frame {ids.max()} has no camera; camera_world holds {len(Rcw)}")
        w2c = np.broadcast_to(np.eye(4), (len(ids), 4, 4)).copy()
        w2c[:, :3, :3], w2c[:, :3, 3] = Rcw[ids], Tcw[ids]
        tracks.append(
            ImportedTrack(
                name, "smplx", pose[:, :3], pose[:, 3:].reshape(len(ids), -1, 3), array(world["trans"]).reshape(-1, 3),
                one_shape(array(world["shape"])), K, w2c, frame_ids=ids, person=str(person), **picture_around(K, size),
            )
        )  # fmt: skip
    return tracks


# ------------------------------------------------------------------------------------------------------ Multi-HMR


def _multi_hmr_people(content: object) -> list[tuple[int, int, Mapping[str, object]]]:
    """(frame, person, values) of one picture's list of people, or of a list or mapping of such lists."""
    frames = content.items() if isinstance(content, Mapping) else enumerate(content) if isinstance(content, list) else []
    if isinstance(content, list) and any(keyed(person, "rotvec", "transl") for person in content):
        frames = [(0, content)]
    found = []
    for i, (name, people) in enumerate(frames):
        number = name if isinstance(name, int) else _frame_number(str(name), i)
        people = people if isinstance(people, list) else []
        found += [(number, place, person) for place, person in enumerate(people) if keyed(person, "rotvec", "transl")]
    return found


def _read_multi_hmr(content: object, beside: Beside, size: Size) -> list[ImportedTrack]:
    """Rows of 53 rotations: root, body, hands, jaw. `transl` is the head's place; the pelvis is `transl_pelvis`.

    People carry no names: in each picture they are told apart by their place in its list.
    """
    name = "Multi-HMR"
    camera = find_beside(beside, "camera")
    rows: dict[int, list[tuple]] = {}
    for number, place, person in _multi_hmr_people(content):
        if "transl_pelvis" not in person:
            raise TrackFormatError(f"{name}: a person has no transl_pelvis; transl alone is the place of the head, save both")
        turns = array(person["rotvec"]).reshape(-1, 3)
        if len(turns) != MULTI_HMR_JOINTS:
            raise TrackFormatError(f"{name}: {len(turns)} rotations, expected {MULTI_HMR_JOINTS} (root, body, hands, jaw)")
        pose = np.zeros((SMPLX_JOINTS, 3))
        pose[:21], pose[24:], pose[21] = turns[1:22], turns[22:52], turns[52]
        shape = array(person["shape"]).reshape(-1) if "shape" in person else None
        rows.setdefault(place, []).append((number, turns[0], pose, array(person["transl_pelvis"]).reshape(3), shape, person.get("K")))
    tracks = []
    for place, found in rows.items():
        found = sorted(found, key=lambda row: row[0])
        given = found[0][5] if found[0][5] is not None else (camera["K"] if keyed(camera, "K") else None)
        shapes = [row[4] for row in found if row[4] is not None]
        tracks.append(
            ImportedTrack(
                name, "smplx", np.stack([r[1] for r in found]), np.stack([r[2] for r in found]), np.stack([r[3] for r in found]),
                one_shape(np.stack(shapes)) if shapes else None, _multi_hmr_camera(size) if given is None else array(given).reshape(3, 3), still(),
                anchor="pelvis", frame_ids=np.array([r[0] for r in found]), person=str(place), named=False,
                betas_of_rows=np.stack(shapes) if len(shapes) == len(found) else None,
                notes=() if given is not None else ("Multi-HMR's file names no camera: its usual 60 degrees across the longer side are taken",),
            )
        )  # fmt: skip
    return tracks


def _multi_hmr_camera(size: Size) -> np.ndarray:
    """Multi-HMR's own guess where it is told none: 60 degrees over the picture, which it pads to a square."""
    return intrinsics(max(size) / (2 * np.tan(np.radians(60) / 2)), size[0] / 2, size[1] / 2)


SMPLX_FORMATS = (
    Format("GVHMR", lambda c, _: keyed(c, "smpl_params_incam", "K_fullimg"), _read_gvhmr),
    Format("PromptHMR", lambda c, _: keyed(c, "people", "camera_world"), _read_prompt_hmr),
    Format("Multi-HMR", lambda c, _: len(_multi_hmr_people(c)) > 0, _read_multi_hmr),
)
