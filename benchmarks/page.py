"""The page of a finished avatar beside the project's own renderer: python -m benchmarks.page --subject demo

Needs work/<subject>, results/<subject>/avatar.html and a Chromium. Every picture is taken in the browser (software WebGL) through
a camera, and by model/render through the same one, in the pose that the page says it shows.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from model.avatar import Attributes, Avatar
from model.avatar_file import load_avatar
from model.camera import Camera
from model.pose import BodyPose
from tasks.artifacts import read_track, subject_paths

POSES = (("clip", 0.0), ("clip", 0.5), ("squat", 0.4), ("dance", 0.3), ("walk", 0.4), ("still", 0.0))  # motion, share of it
SIDES = {"front": 0, "side": 90, "back": 180}  # degrees about the person
INSIDE = 0.5  # alpha from which a pixel is the person's


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page", description=__doc__.splitlines()[0])
    parser.add_argument("--subject", default="demo")
    parser.add_argument("--poses", type=int, default=len(POSES), help="how many of the poses to compare")
    given = parser.parse_args()
    paths = subject_paths(given.subject)
    track = read_track(paths.stage1 / "track.npz", made_by="train_stage1")
    avatar = load_avatar(paths.stage2 / "avatar.safetensors")
    decoded, driver, found = avatar.attributes(), browser_driver(), []
    with driver.chromium(*driver.SOFTWARE_GL) as browser:
        browser.open(paths.results / "avatar.html", query="?play=0")
        browser.wait_for("document.body?.dataset.state == 'ready'")
        for motion, share in POSES[: given.poses]:
            time = browser.run(f"avatarPage.choose('{motion}'), avatarPage.motion.seconds * {share}")
            pose = shown_pose(browser, time)
            for side, degrees in SIDES.items():
                camera = carried_around(track.camera, root_of(avatar, pose), degrees)
                asked = {"time": time, "K": camera.K.tolist(), "w2c": camera.w2c.tolist(), "width": camera.width, "height": camera.height}
                picture = browser.run(f"avatarPage.still({json.dumps(asked | {'motion': motion, 'background': '#ffffff'})})")
                figures = compare(driver.decode_png(picture)[..., :3] / 255, avatar, pose, camera, decoded)
                found.append(figures)
                print(f"{motion} at {share:.1f}, {side}: {words(figures)}", flush=True)
    print("lowest:", words(np.min(found, axis=0)))


def words(figures: np.ndarray) -> str:
    """The four figures of `compare`, in a line."""
    return "page and renderer %.1f dB on white, %.1f inside; stage 2 and stage 1 %.1f on white, %.1f inside" % tuple(figures)


def browser_driver() -> ModuleType:
    """The tests' driver of a headless Chromium."""
    path = Path(__file__).parents[1] / "tests" / "browser" / "chromium.py"
    spec = importlib.util.spec_from_file_location("chromium", path)
    sys.modules["chromium"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["chromium"])
    return sys.modules["chromium"]


def shown_pose(browser: object, time: float) -> BodyPose:
    """The pose of the page's motion at a time, in the track's world."""
    turns = np.array(browser.run(f"Array.from(avatarPage.motion.poseAt({time}).turns)")).reshape(-1, 4)
    vectors = torch.from_numpy(Rotation.from_quat(turns).as_rotvec()).float()
    return BodyPose(vectors[0], vectors[1:], torch.tensor(browser.run(f"avatarPage.motion.poseAt({time}).place")).float())


def root_of(avatar: Avatar, pose: BodyPose) -> torch.Tensor:
    """Where the root joint is, m."""
    root = avatar.joint_transforms(pose)[0]
    return root[:3, :3] @ avatar.atlas_joints_rest[0] + root[:3, 3]


def carried_around(camera: Camera, middle: torch.Tensor, degrees: float) -> Camera:
    """The same camera carried around a point, about the vertical."""
    turn = torch.eye(4)
    turn[:3, :3] = torch.from_numpy(Rotation.from_euler("y", degrees, degrees=True).as_matrix()).float()
    turn[:3, 3] = middle - turn[:3, :3] @ middle
    return Camera(camera.K, camera.w2c @ turn, camera.width, camera.height)


@torch.no_grad()
def compare(page: np.ndarray, avatar: Avatar, pose: BodyPose, camera: Camera, decoded: Attributes) -> np.ndarray:
    """PSNR of the page against the renderer on white and inside the person, then of stage 2 against stage 1, dB."""
    looks = (avatar.attributes_in(pose, decoded), decoded)
    folded, plain = (avatar.render(pose, camera, torch.ones(3), backend="cpu", attributes=look) for look in looks)
    inside = folded.alpha.numpy() > INSIDE
    pictures = [drawn.image.clamp(0, 1).numpy() for drawn in (folded, plain)]
    errors = [np.square(pictures[0] - other) for other in (page, pictures[1])]
    return np.array([-10 * math.log10(float(part.mean()) + 1e-12) for error in errors for part in (error, error[inside])])


if __name__ == "__main__":
    main()
