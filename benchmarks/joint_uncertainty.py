"""How well the expected error of each joint, stored with a track, predicts its true error.

    python -m benchmarks.joint_uncertainty [--subjects demo] [--truth data/{subject}/truth]

Axes: F frames, J = 24 joints; the root, on which both are laid, is left out. The table sorts all joints of all frames by what is
expected of them: in every row the root mean square of the true errors should be that of the expected ones. The figure
UNDERSTATED of model/fitting/uncertainty.py is the ratio of both before it was applied, on people other than the demo's.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from jaxtyping import Float

from benchmarks.body_fit import compare, fitted_joints, true_joints
from model.fitting.prior import JOINT_NAMES
from tasks.artifacts import read_clip, read_track, subject_paths
from tasks.truth import read_truth

NUM_ROWS = 6  # of the reliability table


def expected_and_true(subject: str, truth_folder: Path) -> tuple[Float[np.ndarray, "F J"], Float[np.ndarray, "F J"]]:
    """What is expected of every joint of a subject's track, and what is true, mm.

    Raises:
        ValueError: the track expects nothing, or nothing is known of the truth.
    """
    paths = subject_paths(subject)
    clip, truth = read_clip(paths), read_truth(truth_folder)
    track = read_track(paths.fit / "track.npz", made_by="fit_smpl")
    if truth is None or track.joint_spread is None:
        raise ValueError(f"{subject}: no truth under {truth_folder}" if truth is None else f"{paths.fit}/track.npz has no joint_spread; run: dvc repro fit_smpl")
    rows = [clip.source_frames[clip.frame_ids.index(int(f))] for f in track.frame_ids]
    errors = compare(fitted_joints(track, "open"), true_joints(truth, rows)).rooted
    return 1000 * track.joint_spread[:, 1:24].numpy().astype(np.float64), errors[:, 1:]


def reliability(expected: Float[np.ndarray, "N"], true: Float[np.ndarray, "N"], rows: int = NUM_ROWS) -> Float[np.ndarray, "R 2"]:
    """Root mean squares of what is expected and what is true, in groups of equal size from the least to the most expected."""
    groups = np.array_split(np.argsort(expected, kind="stable"), rows)
    return np.array([[np.sqrt((values[group] ** 2).mean()) for values in (expected, true)] for group in groups])


def rank_correlation(a: Float[np.ndarray, "N"], b: Float[np.ndarray, "N"]) -> float:
    """Spearman's: the correlation of ranks."""
    ranks = [np.argsort(np.argsort(values, kind="stable"), kind="stable") for values in (a, b)]
    return float(np.corrcoef(*ranks)[0, 1])


def print_report(expected: Float[np.ndarray, "F J"], true: Float[np.ndarray, "F J"]) -> None:
    """Correlations, the reliability table, joints."""
    flat, flat_true = expected.ravel(), true.ravel()
    within = np.mean([np.corrcoef(expected[:, j], true[:, j])[0, 1] for j in range(expected.shape[1])])
    print(f"correlation of expected and true errors {np.corrcoef(flat, flat_true)[0, 1]:.2f}, of their ranks {rank_correlation(flat, flat_true):.2f}")
    print(f"between the means of joints {np.corrcoef(expected.mean(0), true.mean(0))[0, 1]:.2f}, within a joint over time {within:.2f}")
    print(f"true over expected, root mean squares: {np.sqrt((flat_true**2).mean() / (flat**2).mean()):.2f}")
    print("expected  true   mm, root mean square of a sixth of all")
    for row in reliability(flat, flat_true):
        print(f"{row[0]:8.0f}{row[1]:6.0f}")
    for j, name in enumerate(JOINT_NAMES[1:]):
        print(f"{name:16s}{np.sqrt((expected[:, j] ** 2).mean()):6.0f}{np.sqrt((true[:, j] ** 2).mean()):6.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--subjects", nargs="+", default=["demo"])
    parser.add_argument("--truth", default="data/{subject}/truth", help="where the truth of each subject lies")
    arguments = parser.parse_args()
    found = [expected_and_true(subject, Path(arguments.truth.format(subject=subject))) for subject in arguments.subjects]
    print_report(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


if __name__ == "__main__":
    main()
