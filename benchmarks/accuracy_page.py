"""Writes the tables of docs/accuracy.md from the reports of benchmarks/people.py and benchmarks/disturbed_poses.py, each figure beside its target.

    python -m benchmarks.accuracy_page
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from benchmarks.disturbed_poses import WANTED
from benchmarks.generated import write_between
from benchmarks.people import LONGEST_WRONG_SIDE, REPORT, TARGETS

PAGE = Path("docs/accuracy.md")
DISTURBED = Path("benchmarks/reports/disturbed_poses.json")
START, END = "<!-- tables: python -m benchmarks.accuracy_page -->", "<!-- end of tables -->"
WORDS = {
    "fit": "the fit on landmarks and outlines", "perfect_points": "perfect 2-D points", "perfect_points_height": "perfect 2-D points, height known",
    "perfect_points_height_look": "perfect 2-D points, height known, refined on the look", "focal_right": "focal length known", "focal_wrong": "focal length 1.5 times too long",
    "look": "refined on the look", "refined": "after joint refinement",
}  # fmt: skip
ASKED = {"fit": "fit", "look": "fit", "refined": "refined"} | {name: "perfect_points" for name in WORDS if name.startswith("perfect_points")}  # which target each is held to


def main() -> None:
    report = json.loads(REPORT.read_text(encoding="utf-8"))
    disturbed = json.loads(DISTURBED.read_text(encoding="utf-8"))
    write_between(PAGE, START, END, f"{tables(report)}\n\n{table_of_disturbed(disturbed)}")


def tables(report: dict) -> str:
    """All tables, in markdown."""
    people = report["people"]
    parts = [f"{report['machine']}, torch {report['torch']}, commit {report['commit']}.", table_of_people(people), table_of_variants(people)]
    return "\n\n".join([*parts, table_of_targets(people)])


def table_of_people(people: dict[str, dict]) -> str:
    """One row a person."""
    rows = [
        "| person | frames | MPJPE | PA | worst frame | depth | height | at the known distance | IoU, of the ceiling | faces away | on the wrong side | processor s/frame |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in people.items():
        fit = row["fit"]
        limb, frames = max(fit["wrong_side_frames"].items(), key=lambda item: item[1])
        off = [100 * (fit[k] - fit["true_height_m"]) for k in ("height_m", "height_at_known_distance_m")]
        rows.append(
            f"| {name} | {fit['frames']} | {fit['mpjpe']:.0f} | {fit['pa']:.0f} | {fit['worst_mpjpe']:.0f} | {fit['depth_mm'] / fit['distance_m'] / 10:+.0f} % "
            f"| {off[0]:+.1f} cm | {off[1]:+.1f} cm | {fit['iou']:.3f} of {fit['iou_ceiling']:.3f} | {fit['flipped_frames']} "
            f"| {f'{frames} ({limb})' if frames else '0'} | {fit['processor_seconds_per_frame']:.2f} |"
        )
    return "\n".join(rows)


def table_of_variants(people: dict[str, dict]) -> str:
    """MPJPE / PA-MPJPE of every way of fitting, one row a person."""
    names = [name for name in WORDS if any(name in row for row in people.values())]
    rows = ["| MPJPE / PA-MPJPE, mm | " + " | ".join(WORDS[name] for name in names) + " |", "|---" * (len(names) + 1) + "|"]
    for person, row in people.items():
        rows.append(f"| {person} | " + " | ".join(f"{row[n]['mpjpe']:.0f} / {row[n]['pa']:.0f}" if n in row else "not run" for n in names) + " |")
    return "\n".join(rows)


def table_of_targets(people: dict[str, dict]) -> str:
    """What was aimed at, what came, and whether that is met."""
    rows = ["| figure | people | measured | target | |", "|---|---|---|---|---|"]
    for what, measured, target, count, met in judged(people):
        rows.append(f"| {what} | {count} | {measured} | {target} | {_verdict(met)} |")
    return "\n".join(rows)


def judged(people: dict[str, dict]) -> list[tuple[str, str, str, int, bool]]:
    """Each target: what it is about, measured, wanted, over how many people, and whether it is met.

    What is asked of the fit is asked of both its stages: of landmarks and outlines alone, and of what the look makes of that.
    """
    found, fits = [], [row["fit"] for row in people.values()]
    for name, target in ASKED.items():
        rows = [row[name] for row in people.values() if name in row]
        if rows:
            found.append(_pair(WORDS[name] + ", mean MPJPE / PA", rows, TARGETS[target]))
    both = [row for row in people.values() if "focal_wrong" in row]
    if both:
        worse = float(np.mean([row["focal_wrong"]["mpjpe"] - row.get("focal_right", row["fit"])["mpjpe"] for row in both]))
        found.append(("focal length 1.5 times too long: MPJPE worse by", f"{worse:+.1f} mm", f"at most {TARGETS['focal_wrong_worse']:.0f} mm", len(both), worse <= TARGETS["focal_wrong_worse"]))
    below = [fit["iou_ceiling"] - fit["iou"] for fit in fits]
    found.append(("silhouette IoU below the ceiling, worst", f"{max(below):.3f}", f"{TARGETS['iou_below_ceiling']}", len(fits), max(below) <= TARGETS["iou_below_ceiling"]))
    for name in ("fit", "look"):
        found += _of_motions(WORDS[name], [row[name] for row in people.values() if name in row])
    return found


def table_of_disturbed(report: dict) -> str:
    """What joint refinement undoes of a known disturbance, over all seeds, and in how many frames it does harm."""
    recovered = [row["recovered"] for row in report["seeds"]]
    worse, frames = (sum(row[k] for row in report["seeds"]) for k in ("worse", "frames"))
    share = float(np.mean(recovered))
    rows = [
        f"`{report['command']}`, {report['machine']}, commit {report['commit']}; the true motion of {report['person']}, every joint turned by {report['degrees']:g} degrees "
        f"and the body moved by {100 * report['shift_m']:g} cm, {report['steps']} steps of stage 1:\n",
        "| figure | seeds | measured | target | |", "|---|---|---|---|---|",
        f"| share of the disturbance that joint refinement undoes, mean (least) | {len(recovered)} | {share:.1%} ({min(recovered):.1%}) | {WANTED:.0%} | {_verdict(share >= WANTED)} |",
        f"| frames that end further off than they started | {len(recovered)} | {worse} of {frames} | none | {_verdict(worse == 0)} |",
    ]  # fmt: skip
    return "\n".join(rows)


def _verdict(met: bool) -> str:
    return "met" if met else "**missed**"


def _of_motions(words: str, motions: list[dict]) -> list[tuple[str, str, str, int, bool]]:
    """What is asked of turns, heights, headings and sides of depth, of those motions that have these figures."""
    found = []
    turns = [motion["turntable"] for motion in motions if "turntable" in motion]
    if turns:
        found.append(_pair(f"turntables, {words}, mean MPJPE / PA", turns, TARGETS["turntable"]))
    heights = [100 * abs(motion["height_at_known_distance_m"] - motion["true_height_m"]) for motion in motions if "height_at_known_distance_m" in motion]
    if heights:
        found.append((f"height where the distance is known, worst, {words}", f"{max(heights):.1f} cm", f"{TARGETS['height_cm']:.0f} cm", len(heights), max(heights) <= TARGETS["height_cm"]))
    whole = [motion for motion in motions if "wrong_side_frames" in motion]
    if whole:
        flipped = sum(motion["flipped_frames"] for motion in whole)
        found.append((f"frames that face the wrong way, {words}", str(flipped), "none", len(whole), flipped == 0))
        longest = max(max(motion["wrong_side_frames"].values()) for motion in whole)
        found.append((f"a limb on the wrong side, longest, {words}", f"{longest} frames", f"at most {LONGEST_WRONG_SIDE}", len(whole), longest <= LONGEST_WRONG_SIDE))
    return found


def _pair(what: str, rows: list[dict], target: dict[str, float]) -> tuple[str, str, str, int, bool]:
    mpjpe, pa = (float(np.mean([row[k] for row in rows])) for k in ("mpjpe", "pa"))
    return what, f"{mpjpe:.1f} / {pa:.1f} mm", f"{target['mpjpe']:.0f} / {target['pa']:.0f} mm", len(rows), mpjpe <= target["mpjpe"] and pa <= target["pa"]


if __name__ == "__main__":
    main()
