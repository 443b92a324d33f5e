"""Point params.yaml at another clip: python -m tasks.choose_subject path/to/clip.mp4 (or: demo).

Only the subject's three lines change; comments and every other value stay. The clip is looked at before anything is
written, so a wrong path leaves params.yaml as it was.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from io import StringIO
from pathlib import Path

from ruamel.yaml import YAML

from tasks.artifacts import subject_paths
from tasks.datasets.folders import dataset_kind
from tasks.errors import InputError, run_stage
from tasks.settings import PARAMS_FILE, check_settings, load_settings
from tasks.whole_files import replaced_file

DEMO = {"name": "demo", "video": "data/demo/clip.mp4", "truth": "data/demo/truth"}
NO_TRUTH = "docs/no_truth"


def subject_name(video: Path) -> str:
    """A subject's name from a file's name: lower-case letters, digits, - and _ only ("Mein Tänzer.mp4" -> mein-tanzer)."""
    plain = unicodedata.normalize("NFKD", video.resolve().name if video.is_dir() else video.stem).encode("ascii", "ignore").decode().lower()
    name = re.sub(r"[^a-z0-9_]+", "-", plain).strip("-_")[:64]
    return f"{name}-clip" if name == DEMO["name"] else name or "clip"


def check_video_path(text: str) -> Path:
    """A regular local file or a dataset's folder, or an error that says what came instead."""
    if re.match(r"^[a-zA-Z][a-zA-Z0-9+.-]*://", text):
        raise InputError(f"expected a video file on this machine, came the address {text}; download it first")
    path = Path(text)
    if dataset_kind(path) is not None:
        return path
    if path.is_dir():
        raise InputError(f"expected a video file, {text} is a folder; name the file in it, e.g. VIDEO={text.rstrip('/')}/clip.mp4, or one subject of People-Snapshot or NeuMan")
    if not path.is_file():
        raise InputError(f"expected a video file, found nothing at {text}; check the path (it is taken from {Path.cwd()})")
    return path


def choose_subject(choice: str, params: Path = PARAMS_FILE) -> dict[str, str]:
    """Write the chosen subject into params.yaml and return its three lines.

    Raises:
        InputError: no regular file at that path, or params.yaml does not fit.
    """
    video = None if choice == DEMO["name"] else check_video_path(choice)
    subject = DEMO if video is None else {"name": subject_name(video), "video": str(video), "truth": NO_TRUTH}
    load_settings(params)
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.representer.add_representer(type(None), lambda dumper, _: dumper.represent_scalar("tag:yaml.org,2002:null", "null"))
    values = yaml.load(params.read_text(encoding="utf-8"))
    if dict(values["subject"]) != subject:
        values["subject"].update(subject)
        text = StringIO()
        yaml.dump(values, text)
        check_settings(YAML(typ="safe", pure=True).load(text.getvalue()), name=str(params))
        with replaced_file(params) as scratch:
            scratch.write_text(text.getvalue(), encoding="utf-8")
    return subject


def main() -> None:
    words = sys.argv[1:]
    if words == ["--where"]:
        paths = subject_paths(load_settings().subject.name)
        print(f"\npage:    {paths.results}/avatar.html\nreport:  {paths.results}/report.html\nnumbers: {paths.results}/metrics.json\navatar:  {paths.stage2}/avatar.safetensors")
    elif len(words) == 1:
        subject = choose_subject(words[0])
        print(f"params.yaml: subject {subject['name']}, video {subject['video']}")
    else:
        raise InputError("expected one path to a video, or the word demo: python -m tasks.choose_subject path/to/clip.mp4")


if __name__ == "__main__":
    run_stage(main, reads_arguments=True)
