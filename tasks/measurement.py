"""Everything that evaluation renders, once: the clip beside the avatar, the truth's pictures, and what is only shown.

Axes: F frames, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import UInt8

from model.avatar import Avatar
from model.body.body_model import BodyModel
from model.body.track import BodyTrack
from model.lpips import Lpips
from model.metrics import Similarity
from model.pose import BodyPose, track_pose
from tasks.artifacts import ClipInfo, FrameSplit, Segmentation, SubjectPaths, read_frame, read_mask
from tasks.pictures import SheetColumn, contact_sheet, encode_jpeg, encode_webp, error_map, on_white, spread_evenly, to_uint8
from tasks.progress import progress_bar
from tasks.report import ReportFrame, picture_side
from tasks.scoring import (
    Seen, Viewer, align_to_truth, camera_in_our_world, capped_psnr, common_joints, joint_errors_mm, motion_in_our_world, pose_at,
    score_picture, track_joints,
)  # fmt: skip
from tasks.showcase import Stand, find_stand, look_from, sample_motion, turntable
from tasks.truth import Truth, TruthView

STAGES = ("stage1", "stage2")
SETS = ("heldout_frames", "heldout_frames_refitted", "novel_views", "novel_poses")
SHEET_COLUMNS = 6
TURNTABLE_COLUMNS = 8
MOTION_SIDE = 0.35  # rad from the clip's own view, so that depth shows
DOUBTFUL_CONFIDENCE = 0.5  # below it the report names the frame

Scores = dict[str, dict[str, list[dict[str, float | None]]]]  # stage -> set -> one record a picture
Picture = UInt8[np.ndarray, "H W 3"]


@dataclass(frozen=True)
class Inputs:
    """Everything that the stages before have left.

    Attributes:
        fitted, refined: the track before and after the joint optimisation.
        refitted: the refined track, held-out rows fitted anew to their pictures with the avatar of stage 1 kept as it is.
        histories: stage -> what it recorded while training.
        truth: None for an ordinary video.
        lpips: None where its backbone is not at hand.
    """

    clip: ClipInfo
    segmentation: Segmentation
    split: FrameSplit
    fitted: BodyTrack
    refined: BodyTrack
    refitted: BodyTrack
    body: BodyModel
    avatars: dict[str, Avatar]
    histories: dict[str, list[dict]]
    truth: Truth | None
    lpips: Lpips | None


@dataclass
class Measured:
    """What evaluation finds; filled part by part.

    Attributes:
        scores: one record for each picture that was compared.
        body: joint errors, mm; None without truth.
        alignment: the similarity to the truth, in plain numbers; None without truth.
        frames: the clip beside the avatar, for the report.
        turntable, motion: stage -> pictures.
        sheets: name of a contact sheet -> (caption, picture).
    """

    scores: Scores = field(default_factory=lambda: {stage: {name: [] for name in SETS} for stage in STAGES})
    body: dict[str, float | None] = field(
        default_factory=lambda: dict.fromkeys(("mpjpe_mm", "pa_mpjpe_mm", "mpjpe_refined_mm", "pa_mpjpe_refined_mm"))
    )
    alignment: dict[str, float] | None = None
    frames: list[ReportFrame] = field(default_factory=list)
    turntable: dict[str, list[Picture]] = field(default_factory=dict)
    motion: dict[str, list[Picture]] = field(default_factory=dict)
    sheets: dict[str, tuple[str, Picture]] = field(default_factory=dict)



def measure(paths: SubjectPaths, inputs: Inputs, *, backend: str, turntable_views: int) -> Measured:
    """Render everything that is compared or shown, once."""
    measured = Measured()
    viewers = {stage: Viewer(avatar, backend=backend) for stage, avatar in inputs.avatars.items()}
    measure_clip(paths, inputs, viewers, measured)
    if inputs.truth is not None:
        measure_truth(inputs, inputs.truth, viewers, measured)
    show_avatar(inputs, viewers, measured, turntable_views=turntable_views, size=inputs.clip.resolution)
    return measured


def measure_clip(paths: SubjectPaths, inputs: Inputs, viewers: dict[str, Viewer], measured: Measured) -> None:
    """Every frame of the clip beside the avatar in its pose; held-out frames are scored, with both of their poses."""
    frame_ids = inputs.refined.frame_ids.tolist()
    camera, side = inputs.refined.camera, picture_side(len(frame_ids))
    times = dict(zip(inputs.clip.frame_ids, inputs.clip.times, strict=True))
    trained, heldout = set(inputs.split.train), set(inputs.split.heldout)
    on_sheet = [sorted(heldout)[i] for i in spread_evenly(len(heldout), SHEET_COLUMNS)]
    columns = []
    with progress_bar("the clip beside the avatar", len(frame_ids)) as show:
        for row, frame_id in enumerate(frame_ids):
            video, mask = read_frame(paths, frame_id), read_mask(paths, frame_id)
            target, share = on_white(video, mask), mask.astype(np.float32) / 255
            role = "heldout" if frame_id in heldout else "train" if frame_id in trained else "flagged"
            seen = {stage: viewer.see(track_pose(inputs.refitted, row), camera) for stage, viewer in viewers.items()}
            scores = {stage: score_picture(picture, target, share, inputs.lpips) for stage, picture in seen.items()} if role == "heldout" else {}
            for stage in scores:
                measured.scores[stage]["heldout_frames_refitted"].append(scores[stage])
                stored = viewers[stage].see(track_pose(inputs.refined, row), camera)
                measured.scores[stage]["heldout_frames"].append(score_picture(stored, target, share, inputs.lpips))
            if frame_id in on_sheet:
                columns.append(_column(f"frame {frame_id}", to_uint8(target), target, seen, mask))
            measured.frames.append(
                ReportFrame(
                    frame_id=frame_id,
                    time_s=times[frame_id],
                    role=role,
                    note=_doubt(inputs, row, frame_id),
                    video=encode_webp(video, max_side=side),
                    renders={stage: encode_jpeg(to_uint8(picture.image), max_side=side) for stage, picture in seen.items()},
                    errors={stage: encode_jpeg(error_map(picture.image, target), max_side=side // 2) for stage, picture in seen.items()},
                    psnr={stage: None if role == "flagged" else capped_psnr(picture.image, target) for stage, picture in seen.items()},
                )
            )
            show(row + 1)
    if columns:
        caption = "Frames that were not trained on, on white; their poses were fitted with the avatar of stage 1 kept as it is."
        measured.sheets["heldout_frames"] = (caption, contact_sheet(["video", *_stage_rows(viewers)], columns))


def measure_truth(inputs: Inputs, truth: Truth, viewers: dict[str, Viewer], measured: Measured) -> None:
    """What only a generated clip can tell: joints, other cameras, a second motion."""
    source_frame = dict(zip(inputs.clip.frame_ids, inputs.clip.source_frames, strict=True))
    for suffix, track in (("_mm", inputs.fitted), ("_refined_mm", inputs.refined)):
        rows = np.array([source_frame[frame_id] for frame_id in track.frame_ids.tolist()])
        joints, true_joints = common_joints(track_joints(track, inputs.body), truth.clip.joints[rows])
        errors = joint_errors_mm(joints, track.w2c.numpy(), true_joints, truth.clip_w2c)
        measured.body |= {f"mpjpe{suffix}": round(errors[0], 3), f"pa_mpjpe{suffix}": round(errors[1], 3)}

    to_truth = align_to_truth(joints, true_joints)
    left = np.linalg.norm(to_truth(torch.from_numpy(joints).double()).numpy() - true_joints, axis=-1)
    measured.alignment = {"scale": round(to_truth.scale, 5), "mean_joint_error_mm": round(1000 * float(left.mean()), 3)}
    second = motion_in_our_world(truth.second, to_truth, inputs.refined, inputs.body)
    kinds: dict[str, tuple[Callable[[int], BodyPose], str]] = {
        "novel_views": (lambda row: pose_at(inputs.refined, rows, row), "Cameras that the clip does not have, at moments that it has."),
        "novel_poses": (lambda row: second[row], "A motion that the clip does not contain, in its true rotations."),
    }
    for kind, (pose_of, caption) in kinds.items():
        views = truth.views(kind)
        on_sheet, columns = set(spread_evenly(len(views), SHEET_COLUMNS)), []
        with progress_bar(kind.replace("_", " "), len(views)) as show:
            for number, view in enumerate(views):
                mask = view.image_rgba[..., 3]
                target = on_white(view.image_rgba[..., :3], mask)
                seen = _score_view(view, target, pose_of(view.row), to_truth, inputs, viewers, measured.scores, kind)
                if number in on_sheet:
                    columns.append(_column(f"{view.camera}, frame {view.row}", to_uint8(target), target, seen, mask))
                show(number + 1)
        measured.sheets[kind] = (caption, contact_sheet(["truth", *_stage_rows(viewers)], columns))


def _score_view(
    view: TruthView,
    target: np.ndarray,
    pose: BodyPose,
    to_truth: Similarity,
    inputs: Inputs,
    viewers: dict[str, Viewer],
    scores: Scores,
    kind: str,
) -> dict[str, Seen]:
    """See one truth picture's moment from its camera with every stage, and add the scores."""
    camera, share = camera_in_our_world(view, to_truth), view.image_rgba[..., 3].astype(np.float32) / 255
    seen = {stage: viewer.see(pose, camera) for stage, viewer in viewers.items()}
    for stage, picture in seen.items():
        scores[stage][kind].append(score_picture(picture, target, share, inputs.lpips))
    return seen


def show_avatar(inputs: Inputs, viewers: dict[str, Viewer], measured: Measured, *, turntable_views: int, size: int) -> None:
    """A walk around the avatar in its first trained pose, and the built-in motion."""
    row = inputs.refined.frame_ids.tolist().index(inputs.split.train[0])
    stand = find_stand(inputs.refined, inputs.body, row)
    standing = track_pose(inputs.refined, row)
    motion = sample_motion(inputs.refined, inputs.body, stand)
    camera = look_from(stand, MOTION_SIDE, size, reach=_reach(inputs, motion, stand))
    alphas: dict[str, list[np.ndarray]] = {}
    for stage, viewer in viewers.items():
        around = [viewer.see(standing, view) for view in turntable(stand, turntable_views, size)]
        moving = [viewer.see(motion[i], camera) for i in range(len(motion.transl))]
        measured.turntable[stage] = [to_uint8(seen.image) for seen in around]
        measured.motion[stage] = [to_uint8(seen.image) for seen in moving]
        alphas = {"turntable": [seen.alpha for seen in around], "novel_poses": [seen.alpha for seen in moving]}
    names = [_stage_name(stage) for stage in viewers]
    for name, pictures, count, caption in (
        ("turntable", measured.turntable, TURNTABLE_COLUMNS, "The avatar from all sides."),
        ("novel_poses", measured.motion, SHEET_COLUMNS, "A built-in motion that the video does not contain."),
    ):
        if name in measured.sheets:
            continue
        total = len(alphas[name])
        chosen = [i * total // count for i in range(count)] if name == "turntable" else spread_evenly(total, count)
        masks = [to_uint8(alphas[name][i]) for i in chosen]
        columns = [SheetColumn("", [pictures[s][i] for s in viewers], mask) for i, mask in zip(chosen, masks, strict=True)]
        measured.sheets[name] = (caption, contact_sheet(names, columns))


def _reach(inputs: Inputs, motion: BodyPose, stand: Stand) -> float:
    """From the middle of the stand to the outermost point of a motion, metres."""
    with torch.no_grad():
        surface = inputs.body.pose(inputs.refined.betas, motion.global_orient, motion.body_pose, motion.transl).vertices
    return float((surface - stand.middle).norm(dim=-1).max())


def _doubt(inputs: Inputs, row: int, frame_id: int) -> str:
    """Why a frame is not trusted, or ""."""
    confidence = float(inputs.refined.confidence[row])
    reasons = [inputs.segmentation.flagged[str(frame_id)]] if str(frame_id) in inputs.segmentation.flagged else []
    reasons += [f"the fitted pose is uncertain (confidence {confidence:.2f})"] if confidence < DOUBTFUL_CONFIDENCE else []
    return "; ".join(reasons)


def _column(title: str, reference: Picture, target: np.ndarray, seen: dict[str, Seen], mask: np.ndarray) -> SheetColumn:
    last = list(seen.values())[-1]
    return SheetColumn(title, [reference, *(to_uint8(s.image) for s in seen.values()), error_map(last.image, target)], mask)


def _stage_rows(viewers: dict[str, Viewer]) -> list[str]:
    return [*(_stage_name(stage) for stage in viewers), f"error, {_stage_name(list(viewers)[-1])}"]


def _stage_name(stage: str) -> str:
    return stage.replace("stage", "stage ")
