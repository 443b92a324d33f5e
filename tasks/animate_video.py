"""Another video's motion: run the fitting stages on it, as a subject of its own, beside the avatar at hand.

The stages are the project's own, run by DVC from the project's own graph; only the folder is another, so that params.yaml,
dvc.lock and the avatar stay as they are. The cache is shared: what was fitted once is there at once, and making an avatar of
the same video later starts from it where its settings are the same.

    work/.drivers/<name>/   dvc.yaml, params.yaml with that video, links to the code, work/<name>/fit/track.npz
"""

from __future__ import annotations

import os
import subprocess
import sys
from io import StringIO
from pathlib import Path

from ruamel.yaml import YAML

from tasks.artifacts import require, subject_paths
from tasks.choose_subject import NO_TRUTH, check_video_path, subject_name
from tasks.dvc_run import run_dvc, stage_environment
from tasks.errors import EXIT_BAD_INPUT, EXIT_INTERRUPTED, InputError, Interrupted
from tasks.settings import PARAMS_FILE, check_settings, load_settings
from tasks.whole_files import replaced_file

FIT_STAGE = "fit_smpl"
CODE = ("model", "tasks", "demo", "docs")
DVC_CONFIG = "[core]\n    analytics = false\n    check_update = false\n    no_scm = true\n[cache]\n    dir = {cache}\n"
OF_ONE_CLIP = (("extract_frames", ("focal_px", "distortion", "subject_box")), ("fit_smpl", ("import", "height")))
PATHS = (("body", ("model", "uv")), ("segment_person", ("rembg_home",)), ("fit_smpl", ("import",)))
NO_PATHS = (None, "", "open", "none")  # words that stand where a path may


def fit_video(video: str, project: Path) -> Path:
    """Bring the body track of a video up to date and return its file.

    Raises:
        InputError: no such video, or the stages refused it (their message is on the terminal).
        Interrupted: Ctrl-C; the stages done so far are kept.
    """
    path = check_video_path(video).resolve()
    folder = prepare_folder(path, project)
    status = run_dvc("repro", FIT_STAGE, folder=folder)
    if status == EXIT_INTERRUPTED:
        raise Interrupted("the stages done so far are kept; run the same command again")
    track = folder / subject_paths(folder.name).fit / "track.npz"
    if status or not track.exists():
        raise InputError(f"the fitting stages ended with status {status or EXIT_BAD_INPUT} on {video}; their message stands above. To see it again: cd {folder} && dvc repro {FIT_STAGE}")
    return track


def prepare_folder(video: Path, project: Path) -> Path:
    """The folder in which a video is fitted: the project's graph and code, and settings that name the video.

    What params.yaml tells of its own clip alone is left out for another one; its paths lead to the same files from here.
    """
    name = subject_name(video)
    folder = project / "work" / ".drivers" / name
    (folder / ".dvc").mkdir(parents=True, exist_ok=True)
    with replaced_file(folder / ".dvc" / "config") as scratch:
        scratch.write_text(DVC_CONFIG.format(cache=_quoted(cache_folder(project))), encoding="utf-8")
    for part in CODE:
        link = folder / part
        if not link.exists():
            link.unlink(missing_ok=True)
            link.symlink_to(os.path.relpath(project / part, folder), target_is_directory=True)
    ignored = project / ".dvcignore"
    for file in (project / "dvc.yaml", ignored):
        if file.exists():
            with replaced_file(folder / file.name) as scratch:
                scratch.write_bytes(file.read_bytes())
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    values = yaml.load((project / PARAMS_FILE).read_text(encoding="utf-8"))
    if (project / load_settings(project / PARAMS_FILE).subject.video).resolve() != video:
        for section, keys in OF_ONE_CLIP:
            values[section].update(dict.fromkeys(keys))
    for section, keys in PATHS:
        values[section].update({key: str(project / Path(values[section][key]).expanduser()) for key in keys if values[section][key] not in NO_PATHS})
    values["subject"].update({"name": name, "video": str(video), "truth": NO_TRUTH})
    text = StringIO()
    yaml.dump(values, text)
    check_settings(YAML(typ="safe", pure=True).load(text.getvalue()), name=str(project / PARAMS_FILE))
    params = folder / PARAMS_FILE
    if not params.exists() or params.read_text(encoding="utf-8") != text.getvalue():
        with replaced_file(params) as scratch:
            scratch.write_text(text.getvalue(), encoding="utf-8")
    require(folder / "dvc.yaml", made_by=FIT_STAGE)
    return folder


def _quoted(place: Path) -> str:
    """A path as a value of DVC's configuration, where a bare # or comma would end it."""
    quote = "'" if '"' in str(place) else '"'
    return f"{quote}{place}{quote}"


def cache_folder(project: Path) -> Path:
    """Where the project's DVC keeps its cache."""
    asked = subprocess.run([sys.executable, "-m", "dvc", "cache", "dir"], cwd=project, env=stage_environment(), capture_output=True, text=True, check=False)
    told = asked.stdout.strip()
    return Path(told) if asked.returncode == 0 and told else project / ".dvc" / "cache"
