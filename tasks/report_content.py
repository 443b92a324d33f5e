"""What the report of one avatar says: figures at the top, what they mean, what was chosen on the way, what is not trusted."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from tasks.artifacts import SubjectPaths, read_json
from tasks.measurement import STAGES, Inputs, Measured
from tasks.pictures import ERROR_CEILING, encode_jpeg
from tasks.report import Report, ReportMotion, ReportSheet, picture_side
from tasks.report_advice import advise
from tasks.report_coverage import report_coverage
from tasks.report_doubts import doubted_rows, report_doubts
from tasks.report_filming import look_at_clip
from tasks.report_poses import pose_changes
from tasks.settings import Settings
from tasks.showcase import MOTION_FPS

SHEET_SIDE = 1680  # px
FROM_VIDEO = (
    "extract_frames", "segment_person", "fit_smpl", "refine_fit", "bake_uv_maps", "train_stage1", "bake_pose_maps", "train_stage2", "evaluate",
)  # fmt: skip
STAGE_ORDER = ("make_demo", *FROM_VIDEO)
SHEET_TITLES = {
    "heldout_frames": "Held-out frames",
    "novel_views": "Other cameras",
    "novel_poses": "Another motion",
    "turntable": "All round",
}
NO_CURVE = {"step", "seconds"}


def report_of(paths: SubjectPaths, inputs: Inputs, measured: Measured, metrics: Mapping, settings: Settings) -> Report:
    """Gather everything that the page shows."""
    side = picture_side(len(measured.frames))
    last = metrics["protocol"]["last_stage"]
    seconds = metrics["seconds"]
    fit = read_json(paths.fit / "fit.json", made_by="fit_smpl")
    seen = look_at_clip(paths, inputs, doubted=len(doubted_rows(inputs, fit)))
    return Report(
        subject=settings.subject.name,
        summary=(
            f"{len(measured.frames)} frames of {inputs.clip.resolution} px, preset {settings.preset}, "
            f"{metrics['protocol']['backend']} rasteriser."
        ),
        tiles=_tiles(metrics, last),
        fps=min(inputs.clip.fps, 30.0),
        frames=measured.frames,
        middles=_middles(inputs),
        turntable={stage: [encode_jpeg(p, max_side=side) for p in pictures] for stage, pictures in measured.turntable.items()},
        motions=[
            ReportMotion(
                "A motion the video does not contain",
                "Built in; the same for every avatar.",
                MOTION_FPS,
                {stage: [encode_jpeg(p, max_side=3 * side // 4) for p in pictures] for stage, pictures in measured.motion.items()},
            )
        ],
        sheets=[
            ReportSheet(SHEET_TITLES[name], caption, encode_jpeg(picture, max_side=SHEET_SIDE))
            for name, (caption, picture) in sorted(measured.sheets.items(), key=lambda item: list(SHEET_TITLES).index(item[0]))
            if name != "turntable"
        ],
        poses=pose_changes(paths, inputs, backend=settings.render.backend),
        coverage=report_coverage(seen, inputs.body, inputs.refined.betas, num_frames=len(inputs.split.train)),
        doubts=report_doubts(paths, inputs, fit, seen.iou),
        advice=advise(seen.filming),
        curves={name: rows for stage in STAGES for name, rows in _charts(stage, inputs.histories.get(stage, [])).items()},
        metrics=metrics,
        error_scale=f"{ERROR_CEILING} or more",
        meanings=_meanings(metrics["protocol"]),
        left_out=[f"video frame {frame}: {why}" for frame, why in inputs.clip.dropped.items()],
        choices=_choices(inputs, metrics, settings),
        seconds={stage: seconds[stage] for stage in STAGE_ORDER if stage in seconds},
    )


def _middles(inputs: Inputs) -> list[float]:
    """Where the person stands in each frame of the track, share of the frame's width."""
    boxes = dict(zip(inputs.clip.frame_ids, inputs.clip.boxes, strict=True))
    places = [(boxes[frame_id][0] + boxes[frame_id][2]) / 2 / inputs.clip.resolution for frame_id in inputs.refined.frame_ids.tolist()]
    return [round(min(max(place, 0.0), 1.0), 3) for place in places]


def curves_of(history: list[dict]) -> dict[str, list[tuple[int, float]]]:
    """What a training recorded, by name: rows of (step, value). Values that are no finite number are left out."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for entry in history:
        for name, value in entry.items():
            if name not in NO_CURVE and isinstance(value, int | float) and math.isfinite(value):
                curves.setdefault(name, []).append((int(entry["step"]), float(value)))
    return curves


def _charts(stage: str, history: list[dict]) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """Losses share one chart; decibels get their own."""
    curves = curves_of(history)
    losses = {name: rows for name, rows in curves.items() if name != "psnr"}
    name = stage.replace("stage", "Stage ")
    charts = {f"{name}: loss": losses} if losses else {}
    return charts | ({f"{name}: PSNR of training frames, dB": {"psnr": curves["psnr"]}} if "psnr" in curves else {})


def _tiles(metrics: Mapping, stage: str) -> list[tuple[str, str]]:
    def figure(where: str, name: str, pattern: str) -> str | None:
        value = metrics[stage][where][name]
        return None if value is None else pattern.format(value)

    spent = sum(metrics["seconds"].get(stage, 0.0) for stage in FROM_VIDEO)  # neither the demo's filming nor a page of an earlier run
    tiles = [
        ("PSNR on held-out frames, poses refitted", figure("heldout_frames_refitted", "psnr", "{:.1f} dB")),
        ("PSNR on other cameras", figure("novel_views", "psnr", "{:.1f} dB")),
        ("PSNR in a second motion", figure("novel_poses", "psnr", "{:.1f} dB")),
        ("mask IoU on held-out frames, poses refitted", figure("heldout_frames_refitted", "mask_iou", "{:.3f}")),
        ("from video to this page", f"{spent / 60:.1f} min"),
    ]
    return [(label, value) for label, value in tiles if value is not None]


def _meanings(protocol: Mapping) -> list[tuple[str, str]]:
    return [
        ("PSNR", "How far the colours are off over the whole picture, person on white, in decibels; higher is better. Empty white counts, so a small person scores higher."),
        ("PSNR in mask", "The same over the person's pixels only: stricter, and independent of how much white there is."),
        ("SSIM", f"Likeness of structure, 1 at best. {protocol['ssim']}"),
        ("LPIPS", f"Distance as people judge it, 0 at best. {protocol['lpips']}"),
        ("mask IoU", "Overlap of the avatar's outline with the person's, 1 at best; both from one half of cover on."),
        ("Held-out frames", protocol["poses"]["heldout_frames_refitted"] + " " + protocol["poses"]["heldout_frames"]),
        ("Other cameras", protocol["poses"]["novel_views"]),
        ("A second motion", protocol["poses"]["novel_poses"]),
        ("MPJPE", "Mean distance of the joints from the truth with the roots put together, in the axes of the clip's camera. PA-MPJPE: after the best similarity transform of each frame."),
    ]


def _choices(inputs: Inputs, metrics: Mapping, settings: Settings) -> list[tuple[str, str]]:
    protocol = metrics["protocol"]
    counts = f"{len(inputs.split.train)} trained on, {len(inputs.split.heldout)} held out (every {settings.split.heldout_every}th), {len(inputs.segmentation.flagged)} with a doubtful mask"
    confidence = inputs.refined.confidence.numpy()
    choices = [
        ("video", inputs.clip.source),
        ("frames", counts),
        ("focal length", f"{float(inputs.fitted.K[0, 0]):.0f} px, " + ("known" if inputs.clip.focal_known else f"fitted; the guess was {inputs.clip.focal_px:.0f} px")),
        ("segmenter", f"{inputs.segmentation.method} ({inputs.segmentation.model})"),
        ("body", inputs.refined.body),
        ("fit", f"mean confidence {np.mean(confidence):.2f}, lowest {np.min(confidence):.2f}"),
        ("preset", settings.preset),
        ("rasteriser", f"{protocol['backend']} (asked for: {settings.render.backend})"),
        ("LPIPS", protocol["lpips"]),
        ("seed", str(settings.seed)),
        ("commit", protocol["commit"] or "not in a git repository"),
        ("data", f"SHA-256 {protocol['data_hash']}"),
    ]
    if measured_alignment := protocol["alignment"]:
        text = f"avatar's world times {measured_alignment['scale']:.4f}; joints then {measured_alignment['mean_joint_error_mm']:.0f} mm off on average"
        choices.append(("similarity to the truth", text))
    return choices + [("note", note) for note in inputs.clip.notes]
