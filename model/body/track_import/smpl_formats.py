"""Files of SMPL poses: how each program lays them out, and what its numbers mean.

Axes: F rows, N rows of one person. Each format is a `Format`: it knows its content when it sees it, and turns it into one
`ImportedTrack` a person. Content is what the file reader made of the file: containers and arrays; `beside` holds the files
that stand next to it, by name. `size` is width and height of the source video, px.

The layouts are facts from the programs' public sources: GaussianAvatar (scene/dataset_mono.py), InstantAvatar
(datasets/peoplesnapshot.py), NeuMan and HUGS (hugs/datasets/neuman.py, models/hugs_trimlp.py), ROMP (simple_romp/romp),
PHALP (trackers/PHALP.py, models/hmar), WHAM (demo.py, lib/utils/imutils.py), TRAM (scripts/estimate_humans.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from model.body.track_import.imported import BODY_JOINTS, ImportedTrack, TrackFormatError, intrinsics, one_shape, picture_around, still, vectors

ROMP_FOCAL = 443.4 / 512  # ROMP and BEV: focal length over the longer side (60 degrees across)
PHALP_FOCAL = 5000 / 256  # 4D-Humans: the picture, padded to a square, counts 256 px

Beside = Mapping[str, object]
Size = tuple[int, int]


@dataclass(frozen=True)
class Format:
    """One program's layout.

    Attributes:
        name: what users call it.
        matches: whether content (and what stands beside it) is of this kind.
        read: the people in it.
    """

    name: str
    matches: Callable[[object, Beside], bool]
    read: Callable[[object, Beside, Size], list[ImportedTrack]]


def array(value: object) -> np.ndarray:
    """Numbers from an array, a tensor or nested lists, in double precision."""
    value = value.detach().cpu().numpy() if hasattr(value, "detach") else value
    try:
        return np.array(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TrackFormatError(f"expected numbers, came {type(value).__name__}") from error


def keyed(content: object, *names: str) -> bool:
    """Whether content is a mapping with all of these keys."""
    return isinstance(content, Mapping) and all(name in content for name in names)


def find_beside(beside: Beside, *names: str) -> object:
    """Content that stands beside the file under one of these names, or None."""
    return next((beside[name] for name in names if name in beside), None)


def camera_of(content: object, source: str, *, wanted: str) -> tuple[np.ndarray, np.ndarray]:
    """`intrinsic` and `extrinsic` (world to camera) of a cameras npz."""
    if not keyed(content, "intrinsic", "extrinsic"):
        raise TrackFormatError(f"{source}: expected {wanted} beside the poses, with `intrinsic` and `extrinsic`; copy it there")
    extrinsic = np.broadcast_to(np.eye(4), (1, 4, 4)).copy()
    given = array(content["extrinsic"]).reshape(-1, *np.shape(content["extrinsic"])[-2:])
    extrinsic = np.broadcast_to(np.eye(4), (len(given), 4, 4)).copy()
    extrinsic[:, :3, :4] = given[:, :3, :4]
    return array(content["intrinsic"]).reshape(3, 3), extrinsic


def whole_pose(pose: np.ndarray, source: str) -> tuple[Float[np.ndarray, "F 3"], Float[np.ndarray, "F K 3"]]:
    """Split rows of 72 (SMPL), 156 (SMPL-H) or 165 (SMPL-X) numbers that begin with the root."""
    pose = pose.reshape(len(pose), -1)
    if pose.shape[1] not in (72, 156, 165):
        raise TrackFormatError(f"{source}: rows of {pose.shape[1]} pose numbers; expected 72 (SMPL), 156 (SMPL-H) or 165 (SMPL-X), the root first")
    return pose[:, :3], pose[:, 3:].reshape(len(pose), -1, 3)


# ----------------------------------------------------------------------------------------------- GaussianAvatar


def _read_gaussian_avatar(content: object, beside: Beside, size: Size) -> list[ImportedTrack]:
    """`body_pose` includes the root; 165 wide for SMPL-X. Rows are the files of images/, in order."""
    name = "GaussianAvatar"
    K, w2c = camera_of(find_beside(beside, "cam_parms.npz"), name, wanted="cam_parms.npz")
    root, pose = whole_pose(array(content["body_pose"]), name)
    family = "smplx" if pose.shape[1] > 23 else "smpl"
    return [ImportedTrack(name, family, root, pose, array(content["trans"]), one_shape(array(content["beta"])), K, w2c)]


# ------------------------------------------------------------------------------------------------ InstantAvatar


def _read_instant_avatar(content: object, beside: Beside, size: Size) -> list[ImportedTrack]:
    """Two spellings: thetas with the root first, or global_orient and body_pose. Its pictures are undistorted ones.

    Its rays go through whole pixel numbers (make_rays), so its principal point counts from the middle of the first pixel.
    """
    name = "InstantAvatar"
    camera = find_beside(beside, "cameras.npz")
    K, w2c = camera_of(camera, name, wanted="cameras.npz")
    K[:2, 2] += 0.5
    if "thetas" in content:
        root, pose = whole_pose(array(content["thetas"]), name)
    else:
        root = array(content["global_orient"]).reshape(-1, 3)
        pose = array(content["body_pose"]).reshape(len(root), -1, 3)
    return [
        ImportedTrack(
            name, "smpl", root, pose, array(content["transl"]).reshape(-1, 3), one_shape(array(content["betas"])), K, w2c,
            width=int(array(camera["width"])) if "width" in camera else None,
            height=int(array(camera["height"])) if "height" in camera else None,
            notes=("InstantAvatar's poses belong to undistorted pictures",),
        )
    ]  # fmt: skip


# ------------------------------------------------------------------------------------------------------- NeuMan


def _read_neuman(content: object, beside: Beside, size: Size) -> list[ImportedTrack]:
    """One scale a row, applied before the translation, in the world of the scene's reconstruction."""
    name = "NeuMan"
    camera = find_beside(beside, "colmap")
    if not keyed(camera, "K", "w2c"):
        raise TrackFormatError(f"{name}: expected the scene's reconstruction (sparse/cameras.txt and images.txt, one folder above 4d_humans/)")
    root = array(content["global_orient"]).reshape(-1, 3)
    w2c = array(camera["w2c"])
    if len(w2c) != len(root):
        raise TrackFormatError(f"{name}: {len(root)} poses but {len(w2c)} cameras in sparse/images.txt; the folder is not whole")
    return [
        ImportedTrack(
            name, "smpl", root, array(content["body_pose"]).reshape(len(root), -1, 3), array(content["transl"]).reshape(-1, 3),
            one_shape(array(content["betas"])), array(camera["K"]), w2c, scale=array(content["scale"]).reshape(-1),
            width=int(camera["width"]), height=int(camera["height"]),
            notes=("the camera moves: each pose is carried into its own camera's axes",),
        )
    ]  # fmt: skip


# --------------------------------------------------------------------------------------------------- ROMP and BEV


def _romp_frames(content: object) -> list[tuple[int, Mapping[str, object]]] | None:
    """(frame number, people) of a picture's or a video's result."""
    inner = content["results"] if keyed(content, "results") else content
    inner = inner.item() if isinstance(inner, np.ndarray) and inner.dtype == object and inner.shape == () else inner
    if keyed(inner, "smpl_thetas", "cam_trans"):
        return [(0, inner)]
    if not isinstance(inner, Mapping) or not inner or not all(isinstance(k, str) for k in inner):
        return None
    frames = [inner[name] for name in sorted(inner)]
    if not any(keyed(frame, "smpl_thetas", "cam_trans") for frame in frames):
        return None
    return [(_frame_number(name, i), inner[name]) for i, name in enumerate(sorted(inner)) if keyed(inner[name], "smpl_thetas", "cam_trans")]


def _frame_number(name: str, otherwise: int) -> int:
    """The number that a frame's file name ends in, counted from 0 as ROMP does."""
    stem = name.replace("\\", "/").rsplit("/", 1)[-1].rsplit(".", 1)[0]
    digits = stem[len(stem.rstrip("0123456789")) :]
    return int(digits) if digits else otherwise


def _read_romp(content: object, beside: Beside, size: Size) -> list[ImportedTrack]:
    """`results[()]`: one record a picture, and a video nests one a frame; people by their track_ids where there are any."""
    rows: dict[str, list[tuple]] = {}
    frames = _romp_frames(content)
    named = all("track_ids" in frame for _, frame in frames)
    for number, frame in frames:
        thetas, betas, places = (array(frame[k]) for k in ("smpl_thetas", "smpl_betas", "cam_trans"))
        thetas, betas, places = thetas.reshape(-1, 72), betas.reshape(len(thetas.reshape(-1, 72)), -1), places.reshape(-1, 3)
        names = array(frame["track_ids"]).reshape(-1).astype(int) if named else range(len(thetas))
        for person, theta, beta, place in zip(names, thetas, betas, places, strict=False):
            rows.setdefault(str(person), []).append((number, theta, beta, place))
    K = intrinsics(ROMP_FOCAL * max(size), size[0] / 2, size[1] / 2)
    return [_track_of_rows("ROMP", person, found, K, named=named) for person, found in rows.items()]


def _track_of_rows(name: str, person: str, found: list[tuple], K: np.ndarray, *, named: bool = True) -> ImportedTrack:
    """(frame, 72 pose numbers, betas, translation) in camera axes, one tuple a row."""
    found = sorted(found, key=lambda row: row[0])
    root, pose = whole_pose(np.stack([row[1] for row in found]), name)
    ids = np.array([row[0] for row in found])
    return ImportedTrack(
        name, "smpl", root, pose, np.stack([row[3] for row in found]), one_shape(np.stack([row[2] for row in found])), K, still(),
        frame_ids=ids, person=person, named=named, betas_of_rows=None if named else np.stack([row[2] for row in found]),
    )  # fmt: skip


# ---------------------------------------------------------------------------------------------- 4D-Humans, PHALP


def _is_phalp(content: object, beside: Beside) -> bool:
    return isinstance(content, Mapping) and any(keyed(frame, "smpl", "camera") for frame in content.values()) and not keyed(content, "smpl_params_incam")


def _read_phalp(content: object, beside: Beside, size: Size) -> list[ImportedTrack]:
    """Frame -> lists over boxes. Only boxes that were seen count (`tracked_time` 0): the others are predictions, ghosts.

    Rotations are matrices, the translation is `camera`, which belongs to a picture of 256 px padded to a square.
    """
    rows: dict[str, list[tuple]] = {}
    ghosts = 0
    for i, name in enumerate(sorted(content)):
        frame = content[name]
        if not keyed(frame, "smpl", "camera"):
            continue
        number = int(frame["time"]) if "time" in frame else _frame_number(str(name), i)
        people = list(frame.get("tid", frame.get("tracked_ids", range(len(frame["smpl"])))))
        unseen = list(frame.get("tracked_time", [0] * len(people)))
        seen_ids = set(np.asarray(frame["tracked_ids"]).reshape(-1).tolist()) if "tracked_ids" in frame else set(people)
        for box, smpl in enumerate(frame["smpl"]):
            if not keyed(smpl, "betas", "body_pose", "global_orient"):
                continue
            person = people[box] if box < len(people) else box
            if person not in seen_ids or (box < len(unseen) and unseen[box] > 0):
                ghosts += 1
                continue
            turns = np.concatenate([array(smpl["global_orient"]).reshape(1, 3, 3), array(smpl["body_pose"]).reshape(-1, 3, 3)])
            rows.setdefault(str(person), []).append((number, vectors(turns).reshape(-1), array(smpl["betas"]).reshape(-1), array(frame["camera"][box]).reshape(3)))
    K = intrinsics(PHALP_FOCAL * max(size), size[0] / 2, size[1] / 2)
    tracks = [_track_of_rows("4D-Humans (PHALP)", person, found, K) for person, found in rows.items()]
    if not tracks:
        raise TrackFormatError(f"4D-Humans (PHALP): no box of any frame was seen ({ghosts} are only predicted)")
    return tracks


# --------------------------------------------------------------------------------------------------------- WHAM


def _is_wham(content: object, beside: Beside) -> bool:
    return isinstance(content, Mapping) and len(content) > 0 and all(keyed(person, "pose", "trans", "betas", "frame_ids") for person in content.values())


def _read_wham(content: object, beside: Beside, size: Size) -> list[ImportedTrack]:
    """Camera poses and places; the world's path breaks where an id does, and is left alone. Focal length: the diagonal."""
    K = intrinsics(float(np.hypot(*size)), size[0] / 2, size[1] / 2)
    tracks = []
    for person, values in content.items():
        root, pose = whole_pose(array(values["pose"]), "WHAM")
        tracks.append(
            ImportedTrack(
                "WHAM", "smpl", root, pose, array(values["trans"]).reshape(-1, 3), one_shape(array(values["betas"])), K, still(),
                frame_ids=array(values["frame_ids"]).astype(int), person=str(person),
            )
        )  # fmt: skip
    return tracks


# --------------------------------------------------------------------------------------------------------- TRAM


def _read_tram(content: object, beside: Beside, size: Size) -> list[ImportedTrack]:
    """One file a person: tensors in a pickled npy; rotations are matrices with the root first, places are [N, 1, 3]."""
    camera = find_beside(beside, "camera.npy")
    camera = content if keyed(content, "img_focal", "img_center") else camera
    if not keyed(camera, "img_focal", "img_center"):
        raise TrackFormatError("TRAM: expected camera.npy (img_focal, img_center) beside the folder hps/; copy it there")
    turns = vectors(array(content["pred_rotmat"]))
    K = intrinsics(float(array(camera["img_focal"]).mean()), *array(camera["img_center"]).reshape(2))
    return [
        ImportedTrack(
            "TRAM", "smpl", turns[:, 0], turns[:, 1:], array(content["pred_trans"]).reshape(-1, 3), one_shape(array(content["pred_shape"])),
            K, still(), frame_ids=array(content["frame"]).reshape(-1).astype(int) if "frame" in content else None, **picture_around(K, size),
        )
    ]  # fmt: skip


# ---------------------------------------------------------------------------------------------------- EasyMocap


def _easymocap_people(content: object) -> list[tuple[int, Mapping[str, object]]]:
    """(frame, person) of one file's list, or of a folder's files."""
    frames = content.items() if isinstance(content, Mapping) and "annots" not in content else [("0", content)]
    found = []
    for name, people in frames:
        people = people["annots"] if keyed(people, "annots") else people
        if isinstance(people, list):
            found += [(_frame_number(str(name), 0), person) for person in people if keyed(person, "Rh", "Th", "poses")]
    return found


def _is_easymocap(content: object, beside: Beside) -> bool:
    return isinstance(content, Mapping | list) and len(_easymocap_people(content)) > 0


def _read_easymocap(content: object, beside: Beside, size: Size) -> list[ImportedTrack]:
    """Poses of 72, 78 (SMPL-H with hand components) or 87 (SMPL-X) numbers, whose first three are zero: the root is Rh.

    x = R(Rh) v + Th turns about the body's origin instead of the pelvis, which `anchor` keeps in mind.
    """
    camera = find_beside(beside, "camera")
    if not keyed(camera, "K", "w2c"):
        raise TrackFormatError("EasyMocap: expected intri.yml and extri.yml beside the poses (or in the folder above); copy them there")
    rows: dict[str, list[tuple]] = {}
    for number, person in _easymocap_people(content):
        pose = array(person["poses"]).reshape(-1)
        if len(pose) not in (69, 63, 72, 78, 87):
            raise TrackFormatError(f"EasyMocap: {len(pose)} pose numbers, expected 72, 78 or 87")
        kind = "smplx" if len(pose) in (63, 87) else "smpl"
        local = pose if len(pose) in (63, 69) else pose[3:]
        own_root = np.zeros(3) if len(pose) in (63, 69) else pose[:3]
        root = (Rotation.from_rotvec(array(person["Rh"]).reshape(3)) * Rotation.from_rotvec(own_root)).as_rotvec()
        if np.abs(own_root).max() > 1e-6:
            raise TrackFormatError("EasyMocap: the first three pose numbers are not zero, so the root is turned twice; export with EasyMocap's own writer")
        joints = 23 if len(pose) in (69, 72) else BODY_JOINTS
        rows.setdefault(str(person.get("id", 0)), []).append((number, root, local[: 3 * joints].reshape(-1, 3), array(person["shapes"]).reshape(-1), array(person["Th"]).reshape(3), kind))
    tracks = []
    for person, found in rows.items():
        found = sorted(found, key=lambda row: row[0])
        tracks.append(
            ImportedTrack(
                "EasyMocap", found[0][5], np.stack([r[1] for r in found]), np.stack([r[2] for r in found]), np.stack([r[4] for r in found]),
                one_shape(np.stack([r[3] for r in found])), array(camera["K"]), array(camera["w2c"]).reshape(1, 4, 4),
                anchor="origin", frame_ids=np.array([r[0] for r in found]), person=person,
            )
        )  # fmt: skip
    return tracks


# ----------------------------------------------------------------------------------------------- People-Snapshot


def _is_snapshot(content: object, beside: Beside) -> bool:
    return keyed(content, "pose", "trans", "betas") and np.ndim(content["pose"]) == 2 and "camera.pkl" in beside


def snapshot_camera(camera: object) -> tuple[np.ndarray, np.ndarray, np.ndarray, int, int]:
    """K (centres of pixels at +0.5; the file counts from the first one's), w2c, distortion, width and height of a camera.pkl."""
    names = ("camera_f", "camera_c", "camera_k", "camera_rt", "camera_t", "width", "height")
    if not keyed(camera, *names):
        raise TrackFormatError(f"People-Snapshot: expected camera.pkl with {', '.join(names)}")
    K = np.diag([*array(camera["camera_f"]).reshape(2), 1.0])
    K[:2, 2] = array(camera["camera_c"]).reshape(2) + 0.5
    w2c = np.eye(4)
    w2c[:3, :3] = Rotation.from_rotvec(array(camera["camera_rt"]).reshape(3)).as_matrix()
    w2c[:3, 3] = array(camera["camera_t"]).reshape(3)
    return K, w2c, array(camera["camera_k"]).reshape(-1), int(array(camera["width"])), int(array(camera["height"]))


def _read_snapshot(content: object, beside: Beside, size: Size) -> list[ImportedTrack]:
    """Rows are the video's frames. Poses belong to undistorted pictures."""
    K, w2c, _, width, height = snapshot_camera(beside["camera.pkl"])
    root, pose = whole_pose(array(content["pose"]), "People-Snapshot")
    return [
        ImportedTrack(
            "People-Snapshot", "smpl", root, pose, array(content["trans"]).reshape(-1, 3), one_shape(array(content["betas"])), K, w2c[None],
            frame_ids=np.arange(len(root)), width=width, height=height, notes=("People-Snapshot's betas belong to SMPL's body of the subject's gender",),
        )
    ]  # fmt: skip


SMPL_FORMATS = (
    Format("People-Snapshot", _is_snapshot, _read_snapshot),
    Format("GaussianAvatar", lambda c, _: keyed(c, "body_pose", "trans", "beta"), _read_gaussian_avatar),
    Format("NeuMan", lambda c, _: keyed(c, "global_orient", "body_pose", "transl", "betas", "scale"), _read_neuman),
    Format(
        "InstantAvatar",
        lambda c, _: keyed(c, "betas", "transl") and "scale" not in c and (keyed(c, "thetas") or keyed(c, "global_orient", "body_pose")),
        _read_instant_avatar,
    ),
    Format("ROMP", lambda c, _: isinstance(c, Mapping) and _romp_frames(c) is not None, _read_romp),
    Format("TRAM", lambda c, _: keyed(c, "pred_rotmat", "pred_trans", "pred_shape"), _read_tram),
    Format("WHAM", _is_wham, _read_wham),
    Format("4D-Humans (PHALP)", _is_phalp, _read_phalp),
    Format("EasyMocap", _is_easymocap, _read_easymocap),
)
