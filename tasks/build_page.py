"""Stage: the page that is the avatar: one file to open in a browser and to hand to somebody else.

Reads the frames, the refined track, both avatars and the figures; writes results/<subject>/avatar.html. The page shows the
avatar of stage 2 where its details are pose shapes, which a browser can blend. A pose encoder stays behind: then the page shows
stage 1. Either way one stage is rendered beside the other on some frames, and the page says how far they are apart.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from model.avatar import Avatar
from model.avatar_file import AvatarFileError, load_avatar
from model.body.track import BodyTrack
from model.pose import track_pose
from tasks.animate import actor_from_file
from tasks.artifacts import SubjectPaths, read_clip, read_frame, read_json, read_segmentation, read_track, require, split_frames, subject_paths, timed
from tasks.body import read_body
from tasks.errors import InputError, run_stage
from tasks.page_content import PageContent, PageVideo, build_page, encode_frames
from tasks.page_folds import pack_folds
from tasks.page_motions import clip_motion, page_motions
from tasks.pictures import spread_evenly
from tasks.progress import progress_bar
from tasks.scoring import Viewer, score_picture
from tasks.settings import Settings, load_settings
from tasks.training_run import find_device
from tasks.whole_files import replaced_file

COMPARED_FRAMES = 6
NEARLY_EQUAL_DB = 40.0  # an error of 2.5 steps of 255, which the eye hardly finds
BASE64 = 4 / 3  # characters a byte


def main() -> None:
    settings = load_settings()
    paths = subject_paths(settings.subject.name)
    with timed(paths, "build_page"):
        content = read_content(paths, settings)
        page = build_page(content)
        with replaced_file(paths.results / "avatar.html") as scratch:
            scratch.write_text(page, encoding="utf-8")
    print(f"{paths.results / 'avatar.html'}: {len(page.encode()) / 1e6:.1f} MB, {len(content.motions)} motions; open it in a browser")


def read_content(paths: SubjectPaths, settings: Settings) -> PageContent:
    """Read what the stages before have left, and make of it what the page shows."""
    clip, segmentation = read_clip(paths), read_segmentation(paths)
    metrics = read_json(paths.results / "metrics.json", made_by="evaluate")
    track = read_track(paths.stage1 / "track.npz", made_by="train_stage1")
    files = {stage: require(getattr(paths, stage) / "avatar.safetensors", made_by=f"train_{stage}") for stage in ("stage1", "stage2")}
    actor = actor_from_file(files["stage1"], track, name=settings.subject.name)
    avatars = {"stage1": actor.avatar, "stage2": read_avatar(files["stage2"])}
    shown = shown_stage(avatars["stage2"])
    baked = avatars[shown].bake()
    times = dict(zip(clip.frame_ids, clip.times, strict=True))
    frame_ids = track.frame_ids.tolist()
    clip_times = np.array([times[frame_id] for frame_id in frame_ids])
    heldout = set(split_frames(clip, segmentation, heldout_every=settings.split.heldout_every).heldout)
    motions = [clip_motion(track, clip_times), *page_motions(settings.build_page.motions, actor)]
    return PageContent(
        subject=settings.subject.name,
        notes=notes_of(metrics, pose_dependence(avatars, track, backend=settings.render.backend), shown=shown),
        baked=baked,
        folds=pack_folds(avatars[shown]) if shown == "stage2" else None,
        cull_margin=avatars[shown].options.cull_margin,
        joint_names=read_body(settings.body).joint_names,
        track=track,
        placement=actor.placement,
        height=float(np.ptp(baked.means_rest[:, 1].numpy())),
        motions=motions,
        video=PageVideo(
            type="image/webp",
            frame_ids=frame_ids,
            heldout=[row for row, frame_id in enumerate(frame_ids) if frame_id in heldout],
            frames=encode_frames(
                [read_frame(paths, frame_id) for frame_id in frame_ids],
                side=settings.build_page.video_side,
                quality=settings.build_page.video_quality,
                max_bytes=int(settings.build_page.video_megabytes * 1e6 / BASE64),
            ),
        ),
    )


def read_avatar(path: Path) -> Avatar:
    """One stage's avatar."""
    try:
        return load_avatar(path)
    except AvatarFileError as error:
        raise InputError(str(error)) from error


def pose_dependence(avatars: dict[str, Avatar], track: BodyTrack, *, backend: str) -> float:
    """How far stage 2 is from stage 1 inside the person, dB (high: nearly equal), over frames spread evenly."""
    rows = spread_evenly(track.num_frames, COMPARED_FRAMES)
    device = find_device(backend)
    viewers = {stage: Viewer(avatar.to(device), backend=backend) for stage, avatar in avatars.items()}
    found = []
    with progress_bar("stage 2 beside stage 1", len(rows)) as show:
        for done, row in enumerate(rows, start=1):
            first, second = (viewers[stage].see(track_pose(track, row), track.camera) for stage in ("stage1", "stage2"))
            found.append(score_picture(second, first.image, first.alpha, lpips=None)["psnr_mask"])
            show(done)
    return float(np.mean([value for value in found if value is not None]))


def shown_stage(second: Avatar) -> str:
    """The stage that the page shows: the second where a browser can do what it does in a pose."""
    return "stage2" if second.pose_shapes is not None and second.pose_encoder is None else "stage1"


def notes_of(metrics: dict, pose_dependence_db: float, *, shown: str) -> str:
    """What a reader should know of what is shown."""
    psnr = metrics[shown]["heldout_frames_refitted"]["psnr"]
    score = "" if psnr is None else f"On frames it was not trained on this avatar is within {psnr:.1f} dB of the video (PSNR, on white). "
    nearly = pose_dependence_db >= NEARLY_EQUAL_DB
    if shown == "stage2":
        change = "hardly change the picture" if nearly else "change the picture"
        return (
            f"{score}Shown is stage 2: folds follow the pose where a part of the body is near a pose of the video, and fade elsewhere. "
            f"In the video's poses they {change}: PSNR of one with them against one without {pose_dependence_db:.0f} dB inside the person."
        )
    return (
        f"{score}Shown is stage 1: colours change with the light on the skin and clothes, not with the pose. "
        f"Stage 2, whose cloth follows the pose, is {'nearly the same' if nearly else 'different'}: "
        f"PSNR of one against the other {pose_dependence_db:.0f} dB inside the person."
    )


if __name__ == "__main__":
    run_stage(main)
