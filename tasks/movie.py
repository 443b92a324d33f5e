"""Pictures become a film or a folder: mp4, gif, animated webp, png. The one door to the encoders of what is rendered.

Axes: F frames, H x W pixels. Pictures are uint8, RGB or RGBA with straight alpha; they come one by one, so that a long film
fits into memory.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from tasks.artifacts import read_image
from tasks.errors import InputError
from tasks.whole_files import replaced_file, replaced_folder

FORMATS = (".mp4", ".gif", ".webp", ".png")
WITH_ALPHA = (".webp", ".png", "")
GIF_FASTEST = 50.0  # frames per second; players slow faster ones down to 10
PICTURE_NAME = re.compile(r"\d{6,}\.png")  # in a folder of pictures
CRF = 18  # H.264 quality, lower is better


def check_format(path: Path) -> str:
    """The kind of a path: its ending in lower case, or "" for a folder of pictures.

    Raises:
        InputError: no such kind; a folder where a film is to be, a file where a folder is to be, or a folder that holds anything
            but pictures from before, for it is replaced as a whole.
    """
    suffix = path.suffix.lower()
    if suffix and suffix not in FORMATS:
        raise InputError(f"expected a name that ends in {', '.join(FORMATS)}, or a folder for single pictures, came {path.name}")
    if suffix and path.is_dir():
        raise InputError(f"expected a file's name, {path} is a folder; choose another name with --out")
    if not suffix and path.exists():
        if not path.is_dir():
            raise InputError(f"expected a folder for single pictures, {path} is a file; choose another name with --out")
        others = [inside.name for inside in path.iterdir() if not PICTURE_NAME.fullmatch(inside.name)]
        if others:
            raise InputError(f"expected a new folder, or one with pictures from before only, for it is replaced as a whole; {path} holds {min(others)}; choose another name with --out")
    return suffix


def write_movie(path: Path, frames: list[Path], *, fps: float) -> None:
    """Make a film of picture files, whole or not at all. A .png takes the one frame; a folder takes copies."""
    kind = check_format(path)
    if kind == "":
        with replaced_folder(path) as folder:
            for number, frame in enumerate(frames):
                shutil.copyfile(frame, folder / f"{number:06d}.png")
        return
    with replaced_file(path) as scratch:
        if kind == ".png":
            shutil.copyfile(frames[0], scratch)
        elif kind == ".mp4":
            write_mp4(scratch, (read_image(frame) for frame in frames), fps=fps)
        elif kind == ".gif":
            write_gif(scratch, [frame for frame in frames], fps=fps)
        else:
            write_webp(scratch, frames, fps=fps)


def write_mp4(path: Path, pictures: Iterable[UInt8[np.ndarray, "H W 3"]], *, fps: float, preset: str = "medium") -> None:
    """H.264 that any player opens: 4:2:0, index at the front; an odd row or column at the edge is left out.

    Args:
        preset: of the encoder, from "ultrafast" to "veryslow"; a faster one writes a larger file.
    """
    pictures = iter(pictures)
    first = next(pictures)
    height, width = (side - side % 2 for side in first.shape[:2])
    if min(height, width) < 2:
        raise InputError(f"expected at least 2 x 2 pixels for an mp4, came {first.shape[1]} x {first.shape[0]}")
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": str(CRF), "preset": preset}
        stream.thread_count = 2
        for picture in _chain(first, pictures):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture[:height, :width, :3]), format="rgb24")))
        container.mux(stream.encode())


def write_gif(path: Path, frames: list[Path], *, fps: float) -> None:
    """A gif that repeats; all frames share one palette, so that still parts do not flicker. Times are hundredths of a second."""
    stride = max(1, int(np.ceil(fps / GIF_FASTEST)))
    kept = frames[::stride]
    samples = [kept[i] for i in sorted({round(i) for i in np.linspace(0, len(kept) - 1, 8)})]
    sheet = np.concatenate([read_image(frame)[..., :3] for frame in samples], axis=0)
    palette = Image.fromarray(sheet).quantize(256, method=Image.Quantize.MEDIANCUT)
    pages = [Image.fromarray(read_image(frame)[..., :3]).quantize(palette=palette, dither=Image.Dither.NONE) for frame in kept]
    due = np.round(np.arange(len(kept) + 1) * stride / fps * 100).astype(int)
    durations = (np.diff(due) * 10).tolist()
    pages[0].save(path, format="GIF", save_all=True, append_images=pages[1:], duration=durations, loop=0, optimize=False)


def write_webp(path: Path, frames: list[Path], *, fps: float) -> None:
    """An animated webp that repeats; keeps alpha."""
    pages = [Image.fromarray(read_image(frame)) for frame in frames]
    durations = np.diff(np.round(np.arange(len(frames) + 1) / fps * 1000).astype(int)).tolist()  # whole milliseconds that do not drift
    pages[0].save(path, format="WEBP", save_all=True, append_images=pages[1:], duration=durations, loop=0, quality=88, method=3)


def _chain(first: np.ndarray, rest: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    yield first
    yield from rest
