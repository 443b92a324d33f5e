"""The settings of the pipeline: params.yaml, typed and strict.

Nothing here has a default: every value stands in params.yaml, and a key that is missing, unknown or of the wrong type is
refused with its path, what was expected and what came.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from model.avatar import PoseEncoderOptions
from model.fitting.appearance import OverRounds, RefineOptions
from model.fitting.carried_tracks import CarryOptions
from model.networks import NetworkOptions
from model.pose_refinement import PoseRates
from model.pose_shapes import PoseShapeOptions
from model.training import Rates, TrainingOptions
from tasks.errors import InputError
from tasks.options import section_of

PARAMS_FILE = Path("params.yaml")

PositiveInt = Annotated[int, Field(gt=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # what torch and numpy both take
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
SubjectName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]


class NetworkSection(section_of(NetworkOptions)):
    """A network of at least one channel and one layer; a convolution that keeps the map's size has an odd side."""

    features: PositiveInt
    smoother_kernel: Annotated[int, Field(ge=0)]
    width: PositiveInt
    layers: PositiveInt
    skip_layer: Annotated[int, Field(ge=0)]
    branch_layers: Annotated[int, Field(ge=0)]
    offset_scale: PositiveFloat
    color_gain: PositiveFloat


class PoseRatesSection(section_of(PoseRates)):
    """Knots lie some time apart, or one in each row; nearer than any two frames they would only take memory."""

    spans: list[Annotated[float, Field(ge=0.02, allow_inf_nan=False)] | Annotated[float, Field(ge=0, le=0)]]


class RatesSection(section_of(Rates)):
    """How fast what moves."""

    poses: PoseRatesSection | None


class TrainingSection(section_of(TrainingOptions)):
    """A training of no steps, minutes or frames has no progress to go by."""

    steps: PositiveInt
    max_minutes: PositiveFloat | None
    frames_per_step: PositiveInt
    checkpoint_every: PositiveInt
    rates: RatesSection


class PoseEncoderSection(section_of(PoseEncoderOptions)):
    """A network of at least one layer."""

    base_width: PositiveInt
    depth: PositiveInt
    reach: PositiveFloat | None


class PoseShapeSection(section_of(PoseShapeOptions)):
    """Nothing is divided by a reach or a fade of 0."""

    reach: PositiveFloat
    fade: PositiveFloat


class CarrySection(section_of(CarryOptions)):
    """Lucas-Kanade matches squares of 3 px and more."""

    every: PositiveInt
    window: Annotated[int, Field(ge=3)]
    agree: PositiveFloat
    strength: PositiveFloat
    point_spread: PositiveFloat
    turned: PositiveFloat


class OverRoundsSection(section_of(OverRounds)):
    """Nothing goes to or from 0 by factors."""

    first: PositiveFloat
    last: PositiveFloat


class RefineSection(section_of(RefineOptions)):
    """How the fit is refined on the look; no rounds leave it as it is, but a round learns and follows something."""

    first_steps: PositiveInt
    steps: PositiveInt
    later_rate: PositiveFloat
    points: PositiveInt
    tracks: PositiveInt
    strength: OverRoundsSection
    point_spread: OverRoundsSection
    carried: CarrySection


class Section(BaseModel):
    """A group of settings: frozen, strict, without defaults."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class SubjectSettings(Section):
    name: SubjectName
    video: str
    truth: str


class BodySettings(Section):
    model: str
    uv: str | None


class RenderSettings(Section):
    backend: Literal["auto", "cpu", "diff_gaussian_rasterization", "gsplat"]


class SplitSettings(Section):
    heldout_every: Annotated[int, Field(ge=2)]


class MakeDemoSettings(Section):
    seed: Seed
    width: PositiveInt
    height: PositiveInt
    fps: PositiveInt
    seconds: PositiveFloat
    second_seconds: PositiveFloat
    novel_views: PositiveInt
    novel_pose_rows: PositiveInt
    novel_size: PositiveInt
    texture: PositiveInt
    crf: Annotated[int, Field(ge=0, le=51)]


class ExtractFramesSettings(Section):
    num_frames: PositiveInt | None
    fps: PositiveFloat | None
    resolution: PositiveInt
    margin: Share
    focal_px: PositiveFloat | None
    distortion: Annotated[list[Finite], Field(min_length=5, max_length=5)] | None
    subject_box: Annotated[list[Finite], Field(min_length=4, max_length=4)] | None
    allow_moving_camera: bool
    even_exposure: bool
    min_frames: PositiveInt
    min_person_share: Share
    min_decoded_share: Share


class SegmentPersonSettings(Section):
    method: Literal["auto", "rembg", "landmarks"]
    rembg_model: str
    rembg_home: str | None
    max_flagged_share: Share


class PartSpreadSection(Section):
    point: PositiveFloat
    radius: PositiveFloat
    prior: PositiveFloat
    limit: PositiveFloat
    speed: PositiveFloat
    turn: PositiveFloat
    shift: PositiveFloat
    depth: PositiveFloat
    offset: PositiveFloat


class HandsAndFaceSection(Section):
    min_palm: PositiveFloat
    min_face: PositiveFloat
    min_presence: Share
    min_seen: Share
    num_expressions: Annotated[int, Field(ge=0, le=100)]
    spreads: PartSpreadSection


class FitSmplSettings(Section):
    import_track: Annotated[str | None, Field(alias="import")]
    import_refine: bool
    height: Annotated[float, Field(ge=0.5, le=2.6)] | None
    landmark: PositiveFloat
    radius: PositiveFloat
    direction: PositiveFloat
    prior: PositiveFloat
    limit: PositiveFloat
    upright: PositiveFloat
    balance: PositiveFloat
    balance_still: PositiveFloat
    standing: PositiveFloat
    turn: PositiveFloat
    shift: PositiveFloat
    burst: PositiveFloat
    contact: PositiveFloat
    offset: PositiveFloat
    outline: PositiveFloat
    inside: PositiveFloat
    floor: PositiveFloat
    shape: PositiveFloat
    tilt: PositiveFloat
    lean: PositiveFloat
    stature: PositiveFloat
    focal_spread: PositiveFloat
    hands_and_face: HandsAndFaceSection


class RefineFitSettings(Section):
    look: str
    resolution: PositiveInt
    map_resolution: int = Field(ge=16, le=256)
    landmark: PositiveFloat
    outline: PositiveFloat
    focal_spread: PositiveFloat
    options: RefineSection


class BakeUvMapsSettings(Section):
    resolution: PositiveInt
    map_resolution: Literal[32, 64, 128, 256]
    density: dict[str, PositiveFloat] | None


class TrainStage1Settings(Section):
    network: NetworkSection
    light: Literal["none", "linear", "quadratic", "lamp"]
    cull_margin: Share | None
    training: TrainingSection


class BakePoseMapsSettings(Section):
    bits: Literal[16, 32]


class TrainStage2Settings(Section):
    pose_encoder: PoseEncoderSection | None
    pose_shapes: PoseShapeSection | None
    training: TrainingSection


class PresetSettings(Section):
    """The sections that differ between a quick avatar and the published one."""

    bake_uv_maps: BakeUvMapsSettings
    train_stage1: TrainStage1Settings
    bake_pose_maps: BakePoseMapsSettings
    train_stage2: TrainStage2Settings


class EvaluateSettings(Section):
    refit_steps: Annotated[int, Field(ge=0)]
    turntable_views: PositiveInt


class BuildPageSettings(Section):
    motions: list[str]
    video_side: Annotated[int, Field(ge=128)]
    video_quality: Annotated[int, Field(ge=1, le=100)]
    video_megabytes: PositiveFloat


class TrackingSettings(Section):
    enabled: bool
    uri: str
    experiment: str


class Settings(Section):
    """All of params.yaml."""

    subject: SubjectSettings
    preset: str
    seed: Seed
    body: BodySettings
    render: RenderSettings
    split: SplitSettings
    make_demo: MakeDemoSettings
    extract_frames: ExtractFramesSettings
    segment_person: SegmentPersonSettings
    fit_smpl: FitSmplSettings
    refine_fit: RefineFitSettings
    presets: dict[str, PresetSettings]
    evaluate: EvaluateSettings
    build_page: BuildPageSettings
    tracking: TrackingSettings

    @property
    def chosen(self) -> PresetSettings:
        """The sections of the preset that is selected."""
        return self.presets[self.preset]


def load_settings(path: Path = PARAMS_FILE) -> Settings:
    """Read and check params.yaml.

    Raises:
        InputError: the file is missing or no YAML, or a key is missing, unknown, of the wrong type or out of range.
    """
    if not path.is_file():
        raise InputError(f"expected the settings file {path}, found none; run from the project's root, or: git checkout {path}")
    try:
        values = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except (YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no valid YAML: {error}") from error
    return check_settings(values, name=str(path))


def is_subject_name(text: str) -> bool:
    """Whether a subject can be called so."""
    try:
        TypeAdapter(SubjectName).validate_python(text)
    except ValidationError:
        return False
    return True


def check_settings(values: object, *, name: str) -> Settings:
    """Turn plain values into typed settings; `name` says in messages where they came from."""
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        raise InputError(f"{name} does not fit:\n" + "\n".join(_explain(problem) for problem in error.errors())) from error
    if settings.preset not in settings.presets:
        raise InputError(f"{name}: preset is '{settings.preset}', expected one of: {', '.join(sorted(settings.presets))}")
    if settings.refine_fit.look not in settings.presets:
        raise InputError(f"{name}: refine_fit.look is '{settings.refine_fit.look}', expected one of: {', '.join(sorted(settings.presets))}")
    if (settings.extract_frames.num_frames is None) == (settings.extract_frames.fps is None):
        raise InputError(f"{name}: set either extract_frames.num_frames or extract_frames.fps, and the other to null")
    for preset, sections in settings.presets.items():
        network = sections.train_stage1.network
        if not network.scale_floor < network.scale_start < network.scale_ceiling:
            came = f"{network.scale_floor}, {network.scale_start}, {network.scale_ceiling}"
            raise InputError(f"{name}: presets.{preset}.train_stage1.network: expected scale_floor < scale_start < scale_ceiling, came {came}")
        if network.smoother_kernel and network.smoother_kernel % 2 == 0:
            raise InputError(f"{name}: presets.{preset}.train_stage1.network.smoother_kernel: expected 0 or an odd number of texels, came {network.smoother_kernel}")
        if network.skip_layer > network.layers:
            raise InputError(f"{name}: presets.{preset}.train_stage1.network.skip_layer: expected at most the {network.layers} layers, came {network.skip_layer}")
    return settings


def _explain(problem: dict) -> str:
    """One line for one problem: where it is, what was expected, what came."""
    where = ".".join(str(part) for part in problem["loc"]) or "the file"
    if problem["type"] == "extra_forbidden":
        return f"  {where}: unknown key; remove it or mend its spelling"
    if problem["type"] == "missing":
        return f"  {where}: missing; see the committed params.yaml for its usual value"
    if where == "subject.name":
        return f"  {where}: expected lower-case letters, digits, - and _ (no spaces), came {problem['input']!r}"
    return f"  {where}: {problem['msg'][0].lower()}{problem['msg'][1:]}, came {problem['input']!r}"
