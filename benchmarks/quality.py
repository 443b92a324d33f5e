"""How good an avatar is after so many minutes, and what each ingredient is worth: one row a change, same seed, same split.

Every row trains stage 1, and stage 2 on top of it where that is asked for, on the prepared subject (frames/, masks/, fit/, fit_refined/
must be there). Each stage is scored on held-out frames and, where the truth is known, on the truth's other cameras and its second motion,
after one similarity transform for the clip. Held-out poses are also refitted, with stage 1 for both, as `evaluate` does; true ones are not.

    python -m benchmarks.quality --minutes 3                          all rows, fitted poses
    python -m benchmarks.quality --exact --rows base no_light         true rotations, two rows
    python -m benchmarks.quality --rows base --minutes 3 10 --stage2  both stages, in three and in ten minutes together
    python -m benchmarks.quality --subject ada bela --rows base       others of the generated cast, or any prepared subject's name
    python -m benchmarks.quality --exact --steps 900 --out benchmarks/reports/quality_ablation.json      docs/quality.md shows such reports
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import itertools
import json
import os
import platform
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from ruamel.yaml import YAML
from scipy.spatial.transform import Rotation
from torch import Tensor

from benchmarks.cast import MEMBERS, Member, fit_variant, prepare, refine_on_look
from model.avatar import Avatar
from model.body.body_model import BodyModel, load_body_model
from model.body.track import BodyTrack
from model.metrics import Similarity
from model.pose import track_pose, with_pose
from model.pose_refinement import PoseCorrection
from model.refitting import keep_what_helps, refine_poses
from model.training import Training, TrainingOptions, run_training, settle_statistics
from model.unseen import fill_unseen, point_visibility
from tasks.artifacts import ClipInfo, SubjectPaths, read_clip, read_segmentation, read_track, split_frames, subject_paths, write_json
from tasks.bake_uv_maps import bake
from tasks.options import options_from
from tasks.pictures import on_white
from tasks.provenance import code_commit
from tasks.scoring import (
    Viewer, align_to_truth, camera_in_our_world, common_joints, joint_errors_mm, mean_scores, motion_in_our_world, pose_at,
    score_picture, track_joints,
)  # fmt: skip
from tasks.settings import PARAMS_FILE, Settings, check_settings
from tasks.train_stage2 import grow
from tasks.training_run import find_device, load_training_frames, look_of
from tasks.truth import Truth, read_truth

ENDLESS = 10**6  # steps, where minutes say when it is over
ROWS: dict[str, dict[str, object]] = {  # what differs from the preset, by its path in params.yaml
    "base": {},
    "no_light": {"train_stage1.light": "none"},
    "linear_light": {"train_stage1.light": "linear"},
    "no_lamp": {"train_stage1.training.lamp_at": []},
    "quadratic_light": {"train_stage1.light": "quadratic", "train_stage1.training.losses.light": 5e-3},
    "plain_layout": {"bake_uv_maps.density": None},
    "no_texel_residual": {"train_stage1.network.texel_residual": False},
    "white_background_no_alpha": {"train_stage1.training.background": "white", "train_stage1.training.losses.alpha": 0.0},
    "no_scale_floor": {"train_stage1.network.scale_floor": 0.0},
    "no_offset_smoothing": {"train_stage1.training.losses.offset_smooth": 0.0},
    "no_ssim": {"train_stage1.training.losses.ssim": 0.0},
    "no_culling": {"train_stage1.cull_margin": None},
    "poses_as_fitted": {"train_stage1.training.rates.poses": None},
    "poses_each_on_its_own": {"train_stage1.training.rates.poses.spans": [0]},
    "single_poses_too": {"train_stage1.training.rates.poses.spans": [0, 0.24, 0.96, 40]},
    "feet_may_slide": {"train_stage1.training.losses.foot_slide": 0.0},
    "published_schedule": {"train_stage1.training.schedule": "milestones"},
    "decoded_at_points": {"train_stage1.network.decode_at": "points"},
    "uv_192": {"bake_uv_maps.resolution": 192},
    "uv_320": {"bake_uv_maps.resolution": 320},
}


def main() -> None:
    arguments = read_arguments()
    values = YAML(typ="safe", pure=True).load(PARAMS_FILE.read_text(encoding="utf-8"))
    report: dict[str, object] = {
        "command": "python -m benchmarks.quality " + " ".join(sys.argv[1:]), "commit": code_commit(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores", "rows": {},
    }  # fmt: skip
    for subject, minutes, name in itertools.product(arguments.subject or [None], arguments.minutes or [None], arguments.rows):
        settings = for_subject(changed(values, ROWS[name], arguments, minutes), subject)
        key = row_name(subject, minutes, name)
        report["rows"][key] = measure(settings, exact=arguments.exact, stage2=arguments.stage2)
        print(key, json.dumps(report["rows"][key]), flush=True)
        if arguments.out:
            write_json(arguments.out, report)


def row_name(subject: str | None, minutes: float | None, name: str) -> str:
    """What a row is called in the report."""
    return ", ".join(part for part in (subject, None if minutes is None else f"{minutes:g} min", name) if part)


def for_subject(settings: Settings, subject: str | None) -> Settings:
    """The settings for another subject: one of the cast, filmed and fitted first where need be, or one that is prepared; None: as they are."""
    if subject is None:
        return settings
    if subject in MEMBERS:
        prepare(MEMBERS[subject], settings, as_is=False)
        fit_variant(MEMBERS[subject], "fit", settings, as_is=False)
        refine_on_look(MEMBERS[subject], settings, as_is=False)
        return for_person(settings, MEMBERS[subject])
    return settings.model_copy(update={"subject": settings.subject.model_copy(update={"name": subject, "truth": "docs/no_truth"})})


def for_person(settings: Settings, member: Member) -> Settings:
    """The settings for a member of the cast whose film is prepared."""
    subject = {"name": member.subject, "video": str(member.film / "clip.mp4"), "truth": str(member.film / "truth")}
    return settings.model_copy(update={"subject": settings.subject.model_copy(update=subject)})


def untimed(settings: Settings, steps: int | None = None) -> Settings:
    """The settings with so many steps of stage 1, None for the preset's, and no limit of time: every machine does the same, busy or not."""
    chosen = settings.chosen
    training = chosen.train_stage1.training.model_copy(update={"max_minutes": None} | ({} if steps is None else {"steps": steps}))
    preset = chosen.model_copy(update={"train_stage1": chosen.train_stage1.model_copy(update={"training": training})})
    return settings.model_copy(update={"presets": settings.presets | {settings.preset: preset}})


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, nargs="+", default=None, help="training time of all stages together, as many steps as it allows; several give a row each; default: the preset's")
    parser.add_argument("--steps", type=int, default=None, help="training steps of stage 1; default: the preset's")
    parser.add_argument("--refit-steps", type=int, default=None, help="of each held-out frame's pose, most of the scoring's time")
    parser.add_argument("--subject", nargs="+", default=None, help="of the cast, or prepared ones; default: the subject of params.yaml")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--exact", action="store_true", help="the truth's bones, motion and camera, kept")
    parser.add_argument("--stage2", action="store_true", help="train and score stage 2 too")
    parser.add_argument("--out", type=Path, default=None)
    return parser.parse_args()


def changed(values: dict, changes: dict[str, object], arguments: argparse.Namespace, minutes: float | None) -> Settings:
    """The settings with some values of the chosen preset replaced."""
    values = copy.deepcopy(values)
    overrides = dict(changes)
    overrides |= limits(values["presets"][values["preset"]], arguments, minutes)
    if arguments.refit_steps is not None:
        values["evaluate"]["refit_steps"] = arguments.refit_steps
    if arguments.exact:
        overrides["train_stage1.training.rates.poses"] = None
    for path, value in overrides.items():
        *sections, key = path.split(".")
        section = values["presets"][values["preset"]]
        for part in sections:
            section = section[part]
        section[key] = value
    return check_settings(values, name="the row's settings")


def limits(preset: dict, arguments: argparse.Namespace, minutes: float | None) -> dict[str, object]:
    """How long the stages train, by their paths in params.yaml: minutes are shared out as the preset's own are, evenly where it has none."""
    stages = ("train_stage1", "train_stage2") if arguments.stage2 else ("train_stage1",)
    overrides: dict[str, object] = {}
    if minutes is not None:
        own = {stage: preset[stage]["training"]["max_minutes"] or 1.0 for stage in stages}
        for stage in stages:
            overrides[f"{stage}.training.max_minutes"] = minutes * own[stage] / sum(own.values())
            overrides[f"{stage}.training.steps"] = ENDLESS
    if arguments.steps is not None:
        overrides["train_stage1.training.steps"] = arguments.steps
    return overrides


def measure(settings: Settings, *, exact: bool, stage2: bool = False) -> dict[str, object]:
    """Train one row and score it."""
    paths = subject_paths(settings.subject.name)
    clip, truth = read_clip(paths), read_truth(Path(settings.subject.truth))
    split = split_frames(clip, read_segmentation(paths), heldout_every=settings.split.heldout_every)
    body = load_body_model(settings.body.model, uv_path=settings.body.uv)
    track = read_track(paths.fit_refined / "track.npz", made_by="refine_fit")
    if exact:
        track = exact_track(track, clip, truth, body)

    def scored(avatar: Avatar) -> dict[str, object]:
        return score(paths, settings, avatar, track, trained.refined, refitted, split.heldout, clip, truth, body)

    trained = train_avatar(settings, paths, track, split.train, body)
    refitted = None if exact else refit(paths, settings, trained.avatar, trained.refined, split.heldout)
    row = {"steps": trained.steps, "seconds": trained.seconds, "points": trained.points, **scored(trained.avatar)}
    if stage2:
        second = train_second(settings, paths, trained, split.train)
        row["stage2"] = {"steps": second.steps, "seconds": second.seconds, **scored(second.avatar)}
    return row


@dataclass(frozen=True)
class TrainedRow:
    """One stage of one row: the avatar, the motion after joint refinement, and what it took."""

    avatar: Avatar
    refined: BodyTrack
    steps: int
    points: int
    seconds: dict[str, float]


def train_avatar(settings: Settings, paths: SubjectPaths, track: BodyTrack, train: list[int], body: BodyModel) -> TrainedRow:
    """Train stage 1 on some frames from a motion to start from, as the stage does, without checkpoints."""
    section, backend = settings.chosen.train_stage1, settings.render.backend
    torch.manual_seed(settings.seed)
    atlas = bake(body, track.betas, settings.chosen.bake_uv_maps)
    look = look_of(section)
    device = find_device(backend)
    avatar = Avatar(atlas, look, body=track.body, betas=track.betas).to(device)
    correction = PoseCorrection(track, avatar.parents, avatar.skeleton[0])
    frames = load_training_frames(paths, track, train)
    options = options_from(section.training, TrainingOptions)
    training = Training(avatar, correction, frames, options, lpips=None, backend=backend, seed=settings.seed)
    seconds = timed_training(training)
    settle_statistics(avatar)
    if options.rates.poses is not None:
        keep_what_helps(avatar, correction, frames, backend=backend)
        correction.spread(frames.rows)
    refined = correction.corrected()
    avatar.note_resolution(refined, frames.rows)
    fill_unseen(avatar, point_visibility(avatar, refined, frames.rows, refined.camera, backend=backend))
    avatar.requires_grad_(False)
    return TrainedRow(avatar, refined, training.step_number, atlas.num_points, seconds)


def train_second(settings: Settings, paths: SubjectPaths, row: TrainedRow, train: list[int]) -> TrainedRow:
    """Stage 2 on top of a finished stage 1, as the stage does, without checkpoints."""
    section, device = settings.chosen.train_stage2, row.avatar.device
    torch.manual_seed(settings.seed)
    track, frames = row.refined, load_training_frames(paths, row.refined, train)
    row.avatar.known_poses = track.body_pose[frames.rows].to(device)
    avatar = grow(row.avatar, section).to(device)
    if section.pose_encoder is not None:
        maps = [avatar.position_map(track_pose(track, each)).cpu() for each in frames.rows.tolist()]
        frames = dataclasses.replace(frames, position_maps=torch.stack(maps))
    options = options_from(section.training, TrainingOptions)
    training = Training(avatar, PoseCorrection(track), frames, options, lpips=None, backend=settings.render.backend, seed=settings.seed)
    seconds = timed_training(training)
    return TrainedRow(avatar.eval().requires_grad_(False), track, training.step_number, row.points, seconds)


def timed_training(training: Training) -> dict[str, float]:
    """Train to the end; seconds by the wall's clock and by the processor's."""
    start, processor = time.perf_counter(), time.process_time()
    run_training(training, on_step=lambda _: None, stop_asked=lambda: False)
    if training.device.type == "cuda":
        torch.cuda.synchronize()
    return {"wall": round(time.perf_counter() - start, 1), "processor": round(time.process_time() - processor, 1)}


def exact_track(track: BodyTrack, clip: ClipInfo, truth: Truth | None, body: BodyModel) -> BodyTrack:
    """The true motion on a body with the true bones, seen by the clip's true camera."""
    if truth is None:
        raise SystemExit("--exact needs a subject whose truth is known")
    K = track.K.clone()
    K[0, 0], K[1, 1] = (float(truth.clip_K[k, k]) * clip.resolution / clip.crop[2] for k in (0, 1))
    world = dataclasses.replace(track, w2c=torch.from_numpy(truth.clip_w2c).float(), K=K, betas=betas_of_bones(true_bones(truth, body), body))
    same = Similarity(1.0, torch.eye(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64))
    motion = motion_in_our_world(truth.clip, same, world, body)
    return with_pose(world, motion[torch.tensor(clip.source_frames)])


def true_bones(truth: Truth, body: BodyModel) -> Float[np.ndarray, "J 3"]:
    """From each joint's parent to the joint, on the true rest body, metres: what the true motion says of it. The root's is 0."""
    motion, parents = truth.clip, body.parents.tolist()
    rotations = Rotation.from_rotvec(np.concatenate([motion.global_orient[:, None], motion.body_pose], 1).reshape(-1, 3))
    local = rotations.as_matrix().reshape(len(motion.joints), -1, 3, 3)
    world, bones = [local[:, 0]], [np.zeros(3)]
    for j in range(1, local.shape[1]):
        world.append(world[parents[j]] @ local[:, j])
        span = motion.joints[:, j] - motion.joints[:, parents[j]]
        bones.append(np.einsum("fba,fb->fa", world[parents[j]], span).mean(0))
    return np.stack(bones)


def betas_of_bones(bones: Float[np.ndarray, "J 3"], body: BodyModel, *, spread: float = 0.005) -> Float[Tensor, "S"]:
    """Shape coefficients, each as small as can be, that give a body these bones within `spread` metres."""
    count, parents = len(bones), body.parents[: len(bones)].clamp_min(0)
    by_beta = (body.j_shapedirs[:count] - body.j_shapedirs[parents]).double()
    wanted = torch.from_numpy(bones) - (body.j_template[:count] - body.j_template[parents]).double()
    rows = torch.cat([by_beta[1:].flatten(0, 1) / spread, torch.eye(body.num_betas, dtype=torch.float64)])
    return torch.linalg.lstsq(rows, torch.cat([wanted[1:].flatten() / spread, wanted.new_zeros(body.num_betas)])).solution.float()


def refit(paths: SubjectPaths, settings: Settings, avatar: Avatar, refined: BodyTrack, heldout: list[int]) -> BodyTrack:
    """The motion with the poses of held-out frames refitted to their pictures."""
    frames = load_training_frames(paths, refined, heldout)
    return refine_poses(avatar, refined, frames, steps=settings.evaluate.refit_steps, backend=settings.render.backend)


def score(
    paths: SubjectPaths, settings: Settings, avatar: Avatar, fitted: BodyTrack, refined: BodyTrack, refitted: BodyTrack | None, heldout: list[int],
    clip: ClipInfo, truth: Truth | None, body: BodyModel,
) -> dict[str, object]:  # fmt: skip
    """Held-out frames with stored poses and, where they are given, refitted ones; with truth also other cameras, second motion and joints."""
    viewer = Viewer(avatar, backend=settings.render.backend)
    frames = load_training_frames(paths, refined, heldout)

    def on_heldout(track: BodyTrack) -> dict[str, float | None]:
        rows = enumerate(frames.rows.tolist())
        pictures = ((viewer.see(track_pose(track, row), track.camera), frames.images[k], frames.masks[k]) for k, row in rows)
        return mean_scores(score_picture(seen, on_white(i, m), m.astype(np.float32) / 255, None) for seen, i, m in pictures)

    scores: dict[str, object] = {"heldout": on_heldout(refined)} | ({} if refitted is None else {"heldout_refitted": on_heldout(refitted)})
    if truth is None:
        return scores
    ours, theirs = common_joints(track_joints(refined, body), truth.clip.joints[clip.source_frames])
    to_truth = align_to_truth(ours, theirs)
    second = motion_in_our_world(truth.second, to_truth, refined, body)
    times = np.array(clip.source_frames, dtype=float)
    poses = {"novel_views": lambda row: pose_at(refined, times, row), "novel_poses": lambda row: second[row]}
    for name, pose_of in poses.items():
        records = []
        for view in truth.views(name):
            share = view.image_rgba[..., 3].astype(np.float32) / 255
            seen = viewer.see(pose_of(view.row), camera_in_our_world(view, to_truth))
            records.append(score_picture(seen, on_white(view.image_rgba[..., :3], view.image_rgba[..., 3]), share, None))
        scores[name] = mean_scores(records)
    for name, each in (("fitted", fitted), ("refined", refined)):
        joints, true_joints = common_joints(track_joints(each, body), truth.clip.joints[clip.source_frames])
        scores[f"joints_{name}_mm"] = [round(v, 2) for v in joint_errors_mm(joints, each.w2c.numpy(), true_joints, truth.clip_w2c)]
    return scores


if __name__ == "__main__":
    main()
