"""Stage: how good the avatar is, in figures, in pictures and in one page.

Reads everything made before, and for a generated clip its truth; writes results/<subject>/ and then records the run in
MLflow, which may be away without any harm.

    metrics.json          all figures, and the protocol they were measured by
    report.html           one file to look at and to send around
    pictures/
        heldout_frames.png    video | stage 1 | stage 2 | error: frames that were not trained on, poses refitted
        novel_views.png       truth | stage 1 | stage 2 | error: cameras that the clip does not have (generated clips)
        novel_poses.png       truth | stage 1 | stage 2 | error: a second motion; for ordinary videos a built-in motion
        turntable.png         all round, and each picture of the last stage in turntable/
"""

from __future__ import annotations

import json
import time
from pathlib import Path

from model.avatar import Avatar
from model.avatar_file import AvatarFileError, load_avatar
from model.body.track import BodyTrack
from model.lpips import HUB_FILE, load_lpips
from model.refitting import refine_poses
from model.render.rasterize import choose_backend
from tasks.artifacts import (
    FrameSplit, SubjectPaths, read_clip, read_seconds, read_segmentation, read_track, require, split_frames, subject_paths, timed, write_image,
    write_json,
)  # fmt: skip
from tasks.body import read_body
from tasks.datasets.protocols import measure_protocols, protocol_lines
from tasks.errors import InputError, run_stage
from tasks.measurement import SETS, STAGES, Inputs, Measured, measure
from tasks.progress import progress_bar
from tasks.provenance import code_commit, data_hash, library_versions
from tasks.report import build_report
from tasks.report_content import curves_of, report_of
from tasks.scoring import mean_scores
from tasks.settings import Settings, load_settings
from tasks.tracking import RunRecord, flatten, flatten_settings, log_pending, pending_folder, queue_run
from tasks.training_run import find_device, load_training_frames
from tasks.truth import read_truth
from tasks.whole_files import replaced_file, replaced_folder


def main() -> None:
    settings = load_settings()
    paths = subject_paths(settings.subject.name)
    start = time.time()
    with timed(paths, "evaluate"):
        inputs = read_inputs(paths, settings)
        measured = measure(paths, inputs, backend=settings.render.backend, turntable_views=settings.evaluate.turntable_views)
        metrics = collect_metrics(paths, inputs, measured, settings, started=start)
        metrics["dataset"] = measure_protocols(inputs, backend=settings.render.backend)
        write_results(paths, inputs, measured, metrics, settings)
    record_run(paths, inputs, metrics, settings, started=start)
    print(summary(paths, metrics))


def read_inputs(paths: SubjectPaths, settings: Settings) -> Inputs:
    """Read what the stages before have left, and fit the held-out poses to their pictures."""
    clip, segmentation = read_clip(paths), read_segmentation(paths)
    split = split_frames(clip, segmentation, heldout_every=settings.split.heldout_every)
    refined = read_track(paths.stage1 / "track.npz", made_by="train_stage1")
    try:
        avatars = {stage: load_avatar(require(getattr(paths, stage) / "avatar.safetensors", made_by=f"train_{stage}")) for stage in STAGES}
        device = find_device(settings.render.backend)
        avatars = {stage: avatar.to(device) for stage, avatar in avatars.items()}
    except AvatarFileError as error:
        raise InputError(str(error)) from error
    body = read_body(settings.body)
    lpips = load_lpips()
    if lpips is None:
        print(f"LPIPS is left out of the figures: {HUB_FILE} is not in torch's hub cache")
    return Inputs(
        clip=clip,
        segmentation=segmentation,
        split=split,
        fitted=read_track(paths.fit / "track.npz", made_by="fit_smpl"),
        refined=refined,
        refitted=refit_heldout(paths, avatars["stage1"], refined, split, settings),
        body=body,
        avatars=avatars,
        histories={stage: json.loads(require(getattr(paths, stage) / "history.json", made_by=f"train_{stage}").read_text()) for stage in STAGES},
        truth=read_truth(Path(settings.subject.truth)),
        lpips=lpips,
    )


def refit_heldout(paths: SubjectPaths, avatar: Avatar, track: BodyTrack, split: FrameSplit, settings: Settings) -> BodyTrack:
    """The track with the poses of held-out frames fitted to their pictures, the avatar kept as it is."""
    if not split.heldout or not settings.evaluate.refit_steps:
        return track
    frames = load_training_frames(paths, track, split.heldout)
    with progress_bar("refitting held-out poses", len(split.heldout)) as show:
        return refine_poses(avatar, track, frames, steps=settings.evaluate.refit_steps, backend=settings.render.backend, show=show)


def collect_metrics(paths: SubjectPaths, inputs: Inputs, measured: Measured, settings: Settings, *, started: float) -> dict:
    """What metrics.json holds; null stands for what cannot be known."""
    scores = {stage: {name: mean_scores(measured.scores[stage][name]) for name in SETS} for stage in STAGES}
    seconds = read_seconds(paths) | {"evaluate": round(time.time() - started, 2)}
    return {**scores, "body": measured.body, "seconds": seconds, "protocol": describe_protocol(paths, inputs, measured, settings)}


def describe_protocol(paths: SubjectPaths, inputs: Inputs, measured: Measured, settings: Settings) -> dict:
    """How the figures were measured, so that they can be compared with others, or not."""
    lpips = "AlexNet, version 0.1, inputs scaled to -1..1 (model/lpips.py, channel weights of torchmetrics)."
    absent = f"Left out: no AlexNet weights ({HUB_FILE}) in torch's hub cache."
    refit = f"Refitted: {settings.evaluate.refit_steps} steps of pose refinement on each held-out frame, the avatar of stage 1 kept as it is; both stages are scored in those poses."
    return {
        "background": "white; the clip's frames by their own soft masks, truth pictures by the true ones",
        "psnr": "mean over pictures of each picture's PSNR, values 0..1; psnr_mask over pixels whose mask is above one half",
        "ssim": "Gaussian window of 11 px, sigma 1.5, no padding, mean of three channels, whole picture (model/ssim.py).",
        "lpips": absent if inputs.lpips is None else lpips,
        "mask_iou": "alpha of the render and mask, both above one half; the clip's masks are the segmenter's",
        "poses": {
            "heldout_frames": "Stored: the corrections that the frames around suggest, as in stage1/track.npz.",
            "heldout_frames_refitted": refit,
            "novel_views": "The refined track, after one similarity transform from all joints of all frames of the clip.",
            "novel_poses": "The true rotations on the fitted body, its root placed by the same similarity transform.",
        },
        "alignment": measured.alignment,
        "image_size": [inputs.refined.width, inputs.refined.height],
        "pictures": {name: len(measured.scores["stage1"][name]) for name in SETS},
        "last_stage": list(inputs.avatars)[-1],
        "preset": settings.preset,
        "backend": choose_backend(settings.render.backend, inputs.avatars["stage1"].betas.device),
        "seed": settings.seed,
        "commit": code_commit(),
        "data_hash": data_hash(paths.frames, paths.masks),
        "versions": library_versions(),
    }


def write_results(paths: SubjectPaths, inputs: Inputs, measured: Measured, metrics: dict, settings: Settings) -> None:
    """Write the pictures, the report and the figures, each whole or not at all; the figures last."""
    html = build_report(report_of(paths, inputs, measured, metrics, settings))
    with replaced_folder(paths.results / "pictures") as folder:
        for name, (_, picture) in measured.sheets.items():
            write_image(folder / f"{name}.png", picture)
        for number, picture in enumerate(measured.turntable[metrics["protocol"]["last_stage"]]):
            write_image(folder / "turntable" / f"{number:03d}.png", picture)
    with replaced_file(paths.results / "report.html") as scratch:
        scratch.write_text(html, encoding="utf-8")
    write_json(paths.results / "metrics.json", metrics)


def record_run(paths: SubjectPaths, inputs: Inputs, metrics: dict, settings: Settings, *, started: float) -> None:
    """Queue the run and log it, with all that waited before it. Never fails for the server's sake."""
    if not settings.tracking.enabled:
        return
    protocol = metrics["protocol"]
    figures = flatten({key: metrics[key] for key in (*STAGES, "body", "seconds")}, separator="/")
    record = RunRecord(
        name=f"{settings.subject.name}-{settings.preset}",
        params=flatten_settings(settings),
        metrics={name: float(value) for name, value in figures.items() if value is not None},
        curves={f"{stage}/training/{name}": rows for stage, history in inputs.histories.items() for name, rows in curves_of(history).items()},
        tags={
            "subject": settings.subject.name,
            "preset": settings.preset,
            "backend": protocol["backend"],
            "segmenter": inputs.segmentation.method,
            "commit": protocol["commit"] or "unknown",
            "data_hash": protocol["data_hash"],
            "source": inputs.clip.source,
        },
        started=started,
        ended=time.time(),
    )
    artifacts: dict[Path, str] = {path: "pictures" for path in (paths.results / "pictures").glob("*.png")}
    artifacts |= {paths.results / "report.html": "", paths.results / "metrics.json": ""}
    artifacts |= {getattr(paths, stage) / "avatar.safetensors": f"checkpoints/{stage}" for stage in STAGES}
    try:
        queue_run(pending_folder(paths), record, artifacts)
    except OSError as error:
        print(f"warning: the run could not be kept for MLflow: {error}")
        return
    logged = log_pending([pending_folder(paths)], settings.tracking)
    if logged:
        print(f"tracked as MLflow run {logged[-1]} at {settings.tracking.uri}; to compare runs: mlflow ui --workers 1")


def summary(paths: SubjectPaths, metrics: dict) -> str:
    """A few lines for whoever waits at the terminal."""
    lines = []
    for stage in STAGES:
        known = {name: metrics[stage][name] for name in SETS if metrics[stage][name]["psnr"] is not None}
        lines.append(f"{stage}: " + ", ".join(f"{name} {row['psnr']:.2f} dB (IoU {row['mask_iou']:.3f})" for name, row in known.items()))
    if metrics["body"]["mpjpe_mm"] is not None:
        lines.append("joints: {mpjpe_mm:.1f} mm fitted, {mpjpe_refined_mm:.1f} mm refined (PA {pa_mpjpe_mm:.1f}, {pa_mpjpe_refined_mm:.1f})".format(**metrics["body"]))
    if metrics["stage1"]["heldout_frames"]["lpips"] is None:
        lines.append(f"LPIPS: {metrics['protocol']['lpips']}")
    if metrics.get("dataset"):
        lines += protocol_lines(metrics["dataset"])
    return "\n".join([*lines, f"report: {paths.results / 'report.html'}"])


if __name__ == "__main__":
    run_stage(main)
