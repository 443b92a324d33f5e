"""Films the cast of generated people, and takes each film through the pipeline's first stages; what is current is kept.

    data/cast/<name>/       the film and its truth, as make_demo writes them; the demo's own are data/demo/
    work/cast-<name>/       frames/, masks/, fit/, as the stages write them; other fits under fits/<variant>/

A stage counts as current while the files and settings that dvc.yaml names for it, and the stages before it, are what they
were. Axes: F kept frames, L = 33 landmarks.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from ruamel.yaml import YAML

from demo.motion import Motion
from demo.people import CAST, Person
from demo.routines import SECONDS
from demo.subject import naked_body, shape_body
from model.body.body_model import BodyModel, load_body_model
from model.fitting.detection import Detected
from model.fitting.objective import fit_body_of
from model.fitting.score import score_fit
from tasks.artifacts import ClipInfo, SubjectPaths, read_clip, read_frame, read_track, subject_paths, write_image, write_json, write_track
from tasks.extract_frames import check_length, choose_lens, describe_clip, find_person, write_frames
from tasks.fit_smpl import KNOWN_FOCAL_SPREAD, describe, detect, draw_sheet, fit, read_inputs, scenes_of, see, spreads_of, track_of
from tasks.fit_state import write_fit_state
from tasks.make_demo import make_demo
from tasks.picture_borders import shown_pixels
from tasks.refine_fit import refine
from tasks.segment_person import judge_masks, segment_clip, write_masks
from tasks.settings import Settings
from tasks.truth import Truth, read_truth
from tasks.video_file import open_video
from tasks.whole_files import replaced_folder

FPS = 10  # of the cast's films: every frame of them is fitted
FILM = {"fps": FPS, "seconds": SECONDS, "novel_views": 2, "novel_pose_rows": 4}  # what differs from the demo's film
DATA = ("data/", "work/", "results/", "${")  # dependencies that are made, not written
PERFECT_LANDMARK, PERFECT_OFFSET = 0.0007, 0.001  # share of the height, m; where landmarks are the true body's: a quarter of a pixel, and a millimetre beside the fitter's
STAGES = ("make_demo", "extract_frames", "segment_person", "fit_smpl")


@dataclass(frozen=True)
class Member:
    """One of the cast, and where their things are."""

    person: Person

    @property
    def name(self) -> str:
        return self.person.name

    @property
    def subject(self) -> str:
        """What the pipeline calls them."""
        return f"cast-{self.name}"

    @property
    def film(self) -> Path:
        return Path("data/demo") if self.person.seed == 0 else Path("data/cast") / self.name

    @property
    def paths(self) -> SubjectPaths:
        return subject_paths(self.subject)

    def truth(self) -> Truth:
        """What is known of the film."""
        truth = read_truth(self.film / "truth")
        if truth is None:
            raise SystemExit(f"expected the truth under {self.film}/truth, found none; run: python -m benchmarks.people --people {self.name}")
        return truth


MEMBERS = {person.name: Member(person) for person in CAST}


@dataclass(frozen=True)
class Variant:
    """One way of fitting the same frames and masks.

    Attributes:
        focal: the guess of the focal length, as a share of the true one; None: as the pipeline guesses it.
        known: whether that is said to be known.
        perfect: whether the landmarks are those of the true body rather than detected ones, and trusted to PERFECT_LANDMARK and PERFECT_OFFSET.
        height: whether the person's height is said too.
    """

    focal: float | None = None
    known: bool = False
    perfect: bool = False
    height: bool = False


VARIANTS = {
    "fit": Variant(),
    "perfect_points": Variant(focal=1.0, known=True, perfect=True),
    "perfect_points_height": Variant(focal=1.0, known=True, perfect=True, height=True),
    "focal_right": Variant(focal=1.0, known=True),
    "focal_wrong": Variant(focal=1.5),
}  # fmt: skip


def prepare(member: Member, settings: Settings, *, as_is: bool) -> None:
    """Film a member of the cast and make frames and masks of the film, as far as these are not current.

    Args:
        as_is: take what is there, though the code that made it has changed.
    """
    film = film_settings(member, settings)
    keys = stage_keys(settings, json.dumps(film.model_dump()))
    steps: dict[str, tuple[Path, Callable[[], None]]] = {
        "make_demo": (member.film / "clip.mp4", lambda: _film(member, film)),
        "extract_frames": (member.paths.frames / "clip.json", lambda: _extract(member, settings)),
        "segment_person": (member.paths.masks / "segmentation.json", lambda: _segment(member, settings)),
    }
    for stage, (product, make) in steps.items():
        _keep_current(member, stage, keys[stage], product, make, as_is=as_is or (stage == "make_demo" and member.person.seed == 0))


def film_settings(member: Member, settings: Settings):
    """How a member is filmed; the demo as params.yaml says."""
    changes = {} if member.person.seed == 0 else FILM
    return settings.make_demo.model_copy(update=changes | {"seed": member.person.seed})


def stage_keys(settings: Settings, film: str) -> dict[str, str]:
    """A fingerprint of what each stage depends on: dvc.yaml's files and settings, and the stages before it."""
    graph = YAML(typ="safe", pure=True).load(Path("dvc.yaml").read_text(encoding="utf-8"))["stages"]
    digest, keys = hashlib.sha256(film.encode()), {}
    for stage in STAGES:
        for path in (Path(dep) for dep in graph[stage]["deps"] if not dep.startswith(DATA)):
            files = sorted(path.rglob("*")) if path.is_dir() else [path]
            for file in files:
                if file.is_file() and "__pycache__" not in file.parts:
                    digest.update(file.as_posix().encode() + file.read_bytes())
        for name in graph[stage]["params"]:
            if name not in ("subject.name", "make_demo"):
                digest.update(json.dumps(getattr(settings, name).model_dump(), sort_keys=True).encode())
        keys[stage] = digest.hexdigest()
    return keys


def _keep_current(member: Member, what: str, key: str, product: Path, make: Callable[[], None], *, as_is: bool) -> None:
    """Make something unless it is there and its stamp says that nothing has changed; record the time that it took."""
    stamp = member.paths.work / "stamps" / f"{what}.json"
    if product.exists() and (as_is or (stamp.exists() and json.loads(stamp.read_text())["key"] == key)):
        return
    start = time.perf_counter()
    make()
    write_json(stamp, {"key": key, "seconds": round(time.perf_counter() - start, 1)})


def _film(member: Member, film) -> None:
    with replaced_folder(member.film) as folder:
        make_demo(film, folder)


def _extract(member: Member, settings: Settings) -> None:
    chosen = settings.extract_frames
    video = open_video(str(member.film / "clip.mp4"))
    notes, lens = check_length(video, chosen), choose_lens(video, chosen)
    found = find_person(video, lens, chosen)
    clip, window = describe_clip(video, found, chosen, notes)
    write_frames(member.paths, video, lens, found, clip, window)


def _segment(member: Member, settings: Settings) -> None:
    clip = read_clip(member.paths)
    images = np.stack([read_frame(member.paths, frame) for frame in clip.frame_ids])
    found = segment_clip(images, settings.segment_person, guides=clip.boxes, crowded=clip.people > 1, shown=partial(shown_pixels, clip))
    masks, segmentation = judge_masks(found, clip, settings.segment_person)
    write_masks(member.paths, masks, found.people, clip, segmentation)


# ------------------------------------------------------------------------------------------------------------- fits


def fit_variant(member: Member, name: str, settings: Settings, *, as_is: bool) -> Path:
    """Fit a member's frames in one of VARIANTS, unless that is current; returns the folder of track.npz and fit.json."""
    folder = variant_paths(member, name).fit
    variant, keys = VARIANTS[name], stage_keys(settings, json.dumps(film_settings(member, settings).model_dump()))
    key = keys["fit_smpl"] + repr(variant) + (repr((PERFECT_LANDMARK, PERFECT_OFFSET)) if variant.perfect else "")
    _keep_current(member, name, key, folder / "track.npz", lambda: _fit(member, variant, folder, settings), as_is=as_is)
    return folder


@dataclass(frozen=True)
class VariantPaths(SubjectPaths):
    """A member's folders, with another fit of the same frames and masks and what comes of that."""

    variant: str

    @property
    def fit(self) -> Path:
        return self.work / "fits" / self.variant

    @property
    def fit_refined(self) -> Path:
        return self.work / "fits" / look_of(self.variant)


def variant_paths(member: Member, name: str) -> SubjectPaths:
    """Where the fit of one of VARIANTS is, and what is refined from it; the plain one's are the pipeline's own."""
    return member.paths if name == "fit" else VariantPaths(member.paths.work, member.paths.results, name)


def look_of(variant: str) -> str:
    """What a fit in one of VARIANTS is called once it is refined on the look."""
    return "look" if variant == "fit" else f"{variant}_look"


def variant_settings(member: Member, variant: Variant, settings: Settings) -> Settings:
    """The settings with what is known, and how well, in one of VARIANTS."""
    fit, look = {}, {}
    if variant.perfect:
        fit |= {"landmark": PERFECT_LANDMARK, "offset": PERFECT_OFFSET}
        look |= {"landmark": PERFECT_LANDMARK}
    if variant.known:
        look |= {"focal_spread": KNOWN_FOCAL_SPREAD}
    if variant.height:
        fit |= {"height": true_height(member)}
    return settings.model_copy(update={"fit_smpl": settings.fit_smpl.model_copy(update=fit), "refine_fit": settings.refine_fit.model_copy(update=look)})


def _fit(member: Member, variant: Variant, folder: Path, settings: Settings) -> None:
    paths, model = member.paths, load_body_model(settings.body.model, uv_path=settings.body.uv)
    clip, body, chosen = read_inputs(paths), fit_body_of(model), variant_settings(member, variant, settings).fit_smpl
    if variant.focal is not None:
        focal = variant.focal * float(true_K(member.truth(), clip.info)[0, 0])
        clip = replace(clip, info=replace(clip.info, focal_px=focal, focal_known=variant.known))
    detected = detect(paths, clip)
    if variant.perfect:
        points = true_landmarks(member, clip.info, model)
        detected = Detected(points, np.ones(points.shape[:2]), detected.points_world, {})
    seen = see(detected, clip, chosen)
    start, clock = time.perf_counter(), time.process_time()
    state = fit(body, seen, clip, chosen)
    seconds, processor = time.perf_counter() - start, time.process_time() - clock
    score = score_fit(body, seen, clip.silhouettes, spreads_of(chosen), state)
    with replaced_folder(folder) as part:
        write_track(part / "track.npz", track_of(clip, model, seen, state, score))
        write_fit_state(part / "state.npz", seen, state)
        write_json(part / "fit.json", describe(clip, model, body, detected, seen, state, score))
        write_json(part / "seconds.json", {"fit": round(seconds, 2), "processor": round(processor, 2), "frames": len(clip.info.frame_ids)})
        write_image(part / "overlay.png", draw_sheet(scenes_of(clip, body, seen, state, score)))


def refine_on_look(member: Member, settings: Settings, *, variant: str = "fit", as_is: bool) -> Path:
    """Take a member's fit in one of VARIANTS through the stage refine_fit, unless that is current; returns the folder of track.npz and refined.json."""
    paths = variant_paths(member, variant)
    folder, keys = paths.fit_refined, stage_keys(settings, json.dumps(film_settings(member, settings).model_dump()))
    settings = variant_settings(member, VARIANTS[variant], settings)
    key = keys["fit_smpl"] + settings.refine_fit.model_dump_json()

    def make() -> None:
        start, clock = time.perf_counter(), time.process_time()
        refined = refine(paths, read_track(paths.fit / "track.npz", made_by="fit_smpl"), settings)
        seconds = {"wall": round(time.perf_counter() - start, 1), "processor": round(time.process_time() - clock, 1)}
        with replaced_folder(folder) as part:
            write_track(part / "track.npz", refined.track)
            write_json(part / "refined.json", refined.record | {"seconds": seconds})

    _keep_current(member, look_of(variant), key, folder / "track.npz", make, as_is=as_is)
    return folder


# ---------------------------------------------------------------------------------------------- the truth in the frames


def true_K(truth: Truth, clip: ClipInfo) -> Float[np.ndarray, "3 3"]:
    """The film camera's intrinsics in px of the written square."""
    x0, y0, side = clip.crop
    scale = clip.resolution / side
    return np.diag([scale, scale, 1.0]) @ np.array([[1, 0, -x0], [0, 1, -y0], [0, 0, 1.0]]) @ truth.clip_K


def true_bodies(member: Member, clip: ClipInfo) -> Float[np.ndarray, "F V 3"]:
    """The naked true body in each kept frame, camera axes, m."""
    truth, rows = member.truth(), clip.source_frames
    motion = Motion(truth.clip.global_orient[rows], truth.clip.body_pose[rows], truth.clip.transl[rows], truth.clip.joints[rows], None, None)
    w2c = truth.clip_w2c
    return np.stack([vertices @ w2c[:3, :3].T + w2c[:3, 3] for vertices in naked_body(member.person, motion)])


def true_height(member: Member) -> float:
    """Of the naked body at rest, m."""
    return float(np.ptp(shape_body(member.person)[0].vertices[:, 1]))


def true_landmarks(member: Member, clip: ClipInfo, model: BodyModel) -> Float[np.ndarray, "F L 2"]:
    """Where the landmarks of the true body lie in the written frames, px."""
    truth = member.truth()
    joints = truth.clip.joints[clip.source_frames] @ truth.clip_w2c[:3, :3].T + truth.clip_w2c[:3, 3]
    marks = model.landmarks(torch.from_numpy(true_bodies(member, clip)).float(), torch.from_numpy(joints).float()).double().numpy()
    pixels = marks @ true_K(truth, clip).T
    return pixels[..., :2] / pixels[..., 2:]
