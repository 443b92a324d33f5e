"""How much memory and time the stages from video to body track take on a minute of video.

    python -m benchmarks.fit_memory [--video data/demo/clip.mp4] [--seconds 60] [--frames 720]

The video is played to and fro until it fills the time, so that nobody leaps. Each stage runs as a process of its own in a folder
of its own; its peak resident memory and its processor time are what the kernel says of it. On a shared machine the processor
time is to be read, not the wall's.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from ruamel.yaml import YAML

from tasks.movie import write_mp4
from tasks.provenance import code_commit
from tasks.video_file import frames_of, open_video

STAGES = ("extract_frames", "segment_person", "fit_smpl")
LIMIT_GB = 4.0
GB = 1024**2  # of the kernel's KiB


def to_and_fro(count: int, length: int) -> list[int]:
    """Rows 0, 1, ... count - 1, count - 2, ... 1, 0, 1, ... until there are `length` of them."""
    period = max(2 * (count - 1), 1)
    return [min(k % period, period - k % period) for k in range(length)]


def write_long_video(source: Path, path: Path, seconds: float, frames: int) -> None:
    """A video of that many frames in that many seconds."""
    video = open_video(str(source))
    step = max(1, round(video.fps * seconds / frames))
    pictures = list(frames_of(video.path, np.arange(0, len(video.times), step)))

    def looped() -> Iterator[UInt8[np.ndarray, "H W 3"]]:
        for row in to_and_fro(len(pictures), frames):
            yield pictures[row]

    write_mp4(path, looped(), fps=frames / seconds, preset="veryfast")


def write_settings(path: Path, video: Path, frames: int) -> None:
    """The project's own settings, for that video and that many frames."""
    yaml = YAML()
    values = yaml.load(Path("params.yaml").read_text())
    values["subject"] |= {"name": "long", "video": str(video)}
    values["extract_frames"] |= {"num_frames": frames, "fps": None}
    with path.open("w") as file:
        yaml.dump(values, file)


def run_stage(stage: str, folder: Path) -> tuple[float, float, float]:
    """Run a stage in a folder; returns peak memory in GB, processor and wall seconds.

    Raises:
        RuntimeError: it failed.
    """
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", f"tasks.{stage}"], cwd=folder, env=os.environ | {"PYTHONPATH": str(Path.cwd())})
    _, status, used = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status):
        raise RuntimeError(f"{stage} failed; its message stands above")
    return used.ru_maxrss / GB, used.ru_utime + used.ru_stime, time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--video", type=Path, default=Path("data/demo/clip.mp4"))
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--frames", type=int, default=720)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_long_video(arguments.video, folder / "long.mp4", arguments.seconds, arguments.frames)
        write_settings(folder / "params.yaml", folder / "long.mp4", arguments.frames)
        print(f"{platform.machine()}, {os.cpu_count()} cores, commit {code_commit()}, {arguments.frames} frames of {arguments.seconds:.0f} s")
        for stage in STAGES:
            peak, processor, wall = run_stage(stage, folder)
            over = "" if peak < LIMIT_GB else f"  more than {LIMIT_GB:.0f} GB"
            print(f"{stage:16s}{peak:6.2f} GB{processor / arguments.frames:8.3f} s of a processor a frame{wall:8.0f} s in all{over}", flush=True)


if __name__ == "__main__":
    main()
