"""What a camera that corrects its exposure costs an avatar, and what evening it out gives back: the demo's clip filmed in three ways.

    python -m benchmarks.exposure --out benchmarks/reports/exposure.json

The clip is decoded, every frame's linear light is multiplied by a factor that wanders along the clip, for each channel by another, shown
by the camera's tone curve, which has a shoulder that the evening knows nothing of, and encoded again: `locked` with factors of 1,
`drifting` with those of `wander`, `evened` the same with extract_frames.even_exposure. Frames, masks and fit are made anew for each
under work/exposure-*; the avatars are trained on the true motion, bones and camera, so that the colours alone tell them apart. Held-out
frames are those of each, as it was filmed or evened; the other cameras show the demo as `locked` does.

Axes: F frames of the clip, H x W pixels, 3 channels.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from ruamel.yaml import YAML

from benchmarks.cast import MEMBERS, Member, fit_variant, prepare
from benchmarks.quality import for_person, measure, untimed
from demo.filming import BRIGHTEST, display_colors, write_clip
from tasks.artifacts import read_clip, write_json
from tasks.provenance import code_commit
from tasks.settings import PARAMS_FILE, Settings, check_settings
from tasks.video_file import frames_of, open_video

STRAY = (0.25, 0.08)  # standard deviations of the logarithm of light: of all channels together, and of each one
TURNS = 1.3  # up and down again along the clip
WAYS = {"locked": (0.0, True), "drifting": (1.0, False), "evened": (1.0, True)}  # how much the light strays, and whether it is evened out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=900, help="of stage 1")
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    values = YAML(typ="safe", pure=True).load(PARAMS_FILE.read_text(encoding="utf-8"))
    values["presets"][values["preset"]]["train_stage1"]["training"]["rates"]["poses"] = None
    settings = untimed(check_settings(values, name=PARAMS_FILE.name), arguments.steps)
    report: dict[str, object] = {
        "command": "python -m benchmarks.exposure " + " ".join(sys.argv[1:]), "commit": code_commit(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores", "rows": {},
    }  # fmt: skip
    for way in WAYS:
        row = report["rows"][way] = measure_way(way, settings)
        told = "" if row["light_off"] is None else f", factors told to {row['light_off']:.1%}"
        print(f"{way}: held out {row['heldout']['psnr']:.2f} dB, other cameras {row['novel_views']['psnr']:.2f}, second motion {row['novel_poses']['psnr']:.2f}{told}", flush=True)
        if arguments.out:
            write_json(arguments.out, report)


@dataclass(frozen=True)
class Filmed(Member):
    """The demo, filmed in one of WAYS."""

    way: str

    @property
    def subject(self) -> str:
        return f"exposure-{self.way}"

    @property
    def film(self) -> Path:
        return Path("data/exposure") / self.way


def measure_way(way: str, settings: Settings) -> dict[str, object]:
    """Film the demo in one way, take it through the first stages, train on the true motion and score; how well the factors were told."""
    stray, evened = WAYS[way]
    member = Filmed(MEMBERS["demo"].person, way)
    prepare(MEMBERS["demo"], settings, as_is=True)
    chosen = settings.model_copy(update={"extract_frames": settings.extract_frames.model_copy(update={"even_exposure": evened})})
    video = open_video(str(MEMBERS["demo"].film / "clip.mp4"))
    light = 1 + stray * (wander(len(video.times)) - 1)
    if not member.film.exists():
        member.film.mkdir(parents=True)
        (member.film / "truth").symlink_to((MEMBERS["demo"].film / "truth").resolve())
        frames = (filmed_with(frame, factor) for frame, factor in zip(frames_of(video.path, np.arange(len(light))), light, strict=True))
        write_clip(member.film / "clip.mp4", frames, width=video.width, height=video.height, fps=round(video.fps), crf=settings.make_demo.crf)
    prepare(member, chosen, as_is=False)
    fit_variant(member, "fit", chosen, as_is=False)
    member.paths.fit_refined.mkdir(exist_ok=True)
    shutil.copy(member.paths.fit / "track.npz", member.paths.fit_refined / "track.npz")
    clip = read_clip(member.paths)
    off = None if clip.exposure is None else float(np.abs(np.log(np.array(clip.exposure) / light[clip.source_frames])).max())
    return {"light_off": off} | measure(for_person(chosen, member), exact=True)


def wander(count: int) -> Float[np.ndarray, "F 3"]:
    """The factor on each channel's light in each frame; their medians are 1."""
    t = 2 * np.pi * np.linspace(0, TURNS, count)[:, None]
    together, single = (np.sqrt(2) * spread for spread in STRAY)
    log = together * np.sin(t) + single * np.cos(0.6 * t + np.array([0.0, 2.1, 4.2]))
    return np.exp(log - np.median(log, axis=0))


def filmed_with(image: UInt8[np.ndarray, "H W 3"], factor: Float[np.ndarray, "3"]) -> UInt8[np.ndarray, "H W 3"]:
    """A picture of the demo's camera as it would be with so many times the light."""
    light = np.linspace(0, np.sqrt(BRIGHTEST), 1 << 16) ** 2
    shown = display_colors(light[:, None, None].astype(np.float32))[:, 0, 0]
    level_of = np.interp(np.arange(256) / 255, shown, light)
    table = display_colors((level_of[:, None] * factor)[:, None].astype(np.float32))[:, 0]
    return np.stack([np.rint(255 * table[:, k].clip(0, 1)).astype(np.uint8)[image[..., k]] for k in range(3)], axis=-1)


if __name__ == "__main__":
    main()
