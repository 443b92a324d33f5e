"""Videos that tests write: frames that tell their number, odd time stamps, turned and squeezed pictures."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from tasks.settings import ExtractFramesSettings


def write_video(path: Path, frames: list[np.ndarray], *, fourcc: str = "mp4v", fps: float = 10.0) -> Path:
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*fourcc), fps, (width, height))
    assert writer.isOpened()
    for frame in frames:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    writer.release()
    return path


def numbered(count: int, *, width: int = 96, height: int = 64) -> list[np.ndarray]:
    """Frames whose brightness tells their number, with a white block at the top left."""
    frames = []
    for i in range(count):
        frame = np.full((height, width, 3), 20 + 4 * i, np.uint8)
        frame[:16, :16] = 250
        frames.append(frame)
    return frames


def turn_upright(path: Path, degrees: int) -> None:
    """Write into an mp4 that its pictures are to be turned."""
    c, s = round(np.cos(np.radians(degrees))), round(np.sin(np.radians(degrees)))
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 4 + 40  # the matrix of a version 0 track header: [a b u; c d v; x y w]
    struct.pack_into(">9i", content, at, c << 16, s << 16, 0, -s << 16, c << 16, 0, 0, 0, 1 << 30)
    path.write_bytes(content)


def write_stamped(path: Path, stamps: list[int], **options: str) -> Path:
    """Noise that is shown at these hundredths of a second."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("vp8" if path.suffix == ".webm" else "mpeg4", rate=100, width=64, height=48, pix_fmt="yuv420p")
        stream.codec_context.time_base = Fraction(1, 100)
        for stamp in stamps:
            frame = av.VideoFrame.from_ndarray(rng.integers(0, 255, (48, 64, 3), np.uint8), format="rgb24")
            frame.pts = stamp
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def settings(**changes: object) -> ExtractFramesSettings:
    values = dict(num_frames=8, fps=None, resolution=256, margin=0.1, focal_px=None, distortion=None,
                  subject_box=None, allow_moving_camera=False, even_exposure=True, min_frames=4, min_person_share=0.5,
                  min_decoded_share=0.98)  # fmt: skip
    return ExtractFramesSettings(**(values | changes))
