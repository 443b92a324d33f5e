"""What can be looked at of a body fit: the film fit/overlay.mp4 and the page of numbers fit/fit.html.

Axes: F frames. The page opens without a network; it plays the film that lies beside it.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from model.fitting.film import FitScenes, film
from tasks.movie import write_mp4
from tasks.progress import progress_bar
from tasks.whole_files import replaced_file

FASTEST = 30.0  # frames per second of the film
LANDMARK_GROUPS = {
    "face": range(0, 11), "shoulders": (11, 12), "elbows": (13, 14), "wrists": (15, 16), "hands": range(17, 23),
    "hips": (23, 24), "knees": (25, 26), "ankles": (27, 28), "feet": range(29, 33),
}  # fmt: skip
CHART_WIDTH, CHART_HEIGHT = 900, 110
MAP_LEFT, MAP_ROW, MAP_COLUMNS = 150, 13, 150  # px of the names, px of a joint's row, columns at most
SPREAD_TOP_MM = 150.0  # expected error that is drawn darkest
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #24262b; background: #fafaf8; max-width: 960px; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.1rem; margin-top: 2rem } p.said { color: #5a5d66; max-width: 75ch }
video { width: 100%; background: #ddd } table { border-collapse: collapse } td, th { padding: .2rem .9rem .2rem 0; text-align: left; vertical-align: top }
td.number { text-align: right; font-variant-numeric: tabular-nums } tr + tr { border-top: 1px solid #e4e4e0 }
svg { width: 100%; height: auto; background: #fff; border: 1px solid #e4e4e0 } svg text { font: 11px system-ui, sans-serif; fill: #5a5d66 }
.map rect { fill: #8c2d62 } .line { fill: none; stroke: #2f6db5; stroke-width: 1.5 } .bad { fill: #de543c; opacity: .16 } .edge { stroke: #d8d8d2; stroke-width: 1 }
"""


def write_film(path: Path, scenes: FitScenes, *, fps: float) -> None:
    """Write the film, whole or not at all; a clip of many frames a second is shown at FASTEST."""
    count = len(scenes.images)

    def pictures():
        with progress_bar("drawing the film", count) as show:
            for done, picture in enumerate(film(scenes), start=1):
                yield picture
                show(done)

    with replaced_file(path) as scratch:
        write_mp4(scratch, pictures(), fps=float(np.clip(fps, 1.0, FASTEST)) if np.isfinite(fps) else FASTEST, preset="veryfast")


def landmark_misses(misses: Float[np.ndarray, "F 33"]) -> dict[str, float | None]:
    """Mean reprojection error of each group of landmarks, px; None where none of it is sure."""
    groups = {name: misses[:, list(landmarks)] for name, landmarks in LANDMARK_GROUPS.items()}
    return {name: float(np.nanmean(values)) if np.isfinite(values).any() else None for name, values in groups.items()}


def write_page(
    path: Path, *, title: str, record: Mapping, series: Mapping[str, Float[np.ndarray, "F"]], joint_spread: Float[np.ndarray, "F J"],
    joint_names: Sequence[str], frame_ids: Sequence[int], doubted: Sequence[int], notes: Sequence[str],
) -> None:  # fmt: skip
    """Write the page, whole or not at all.

    Args:
        record: the numbers of fit.json.
        series: values over the clip, each a chart; its name with its unit.
        joint_spread: how far each joint is expected to be off, m.
        doubted: rows of `frame_ids` that are marked in the charts.
        notes: what else a user should know, in sentences.
    """
    charts = "".join(f"<h3>{html.escape(name)}</h3>{chart(values, doubted, frame_ids)}" for name, values in series.items())
    said = "".join(f"<li>{html.escape(note)}</li>" for note in notes)
    page = f"""<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{html.escape(title)}</title><style>{STYLE}</style><h1>{html.escape(title)}</h1>
<p class="said">How well the body lies on the video, by what the video itself shows. A good fit keeps its outline on the mask's, and stands
upright in the view from the side: an error in depth shows there and nowhere else.</p>
<video src="overlay.mp4" controls loop muted></video>
<p class="said">Left: body outline (orange), mask outline (green), bones (blue: it is known where they end, magenta: it is not), landmarks (white: trusted, magenta: not). Right: the body
from its side. Below: confidence of each frame, doubted ones in red.</p>
<h2>Numbers</h2>{number_table(record)}
<h2>Frames in doubt</h2>{doubt_table(record.get("distrusted", {}), frame_ids)}
<h2>Joints</h2><p class="said">How far each joint is expected to lie from where it truly is beside the pelvis, depth included: from what the
objective lets it move, doubled as a generated person's true errors ask for. Pale: 0 mm; dark: {SPREAD_TOP_MM:.0f} mm and more.</p>
{joint_map(joint_spread, joint_names, frame_ids)}
<h2>Over the clip</h2>{charts}
{f"<h2>Notes</h2><ul>{said}</ul>" if notes else ""}</html>
"""
    with replaced_file(path) as scratch:
        scratch.write_text(page, encoding="utf-8")


def number_table(record: Mapping) -> str:
    """The numbers of fit.json, in words."""

    def figure(key: str, form: str, factor: float = 1.0) -> str:
        value = record.get(key)
        return "-" if value is None else form.format(value * factor)

    rows = [
        ("landmarks missed by, in the mean", figure("reprojection_px", "{:.1f} px")),
        ("the same, of the person's height", figure("reprojection_share_of_height", "{:.2f} %", 100)),
        ("silhouette IoU, mean", figure("iou_mean", "{:.3f}")),
        ("silhouette IoU, worst frame", figure("iou_worst", "{:.3f}")),
        ("acceleration of the joints (jitter), mean", figure("acceleration_m_s2", "{:.1f} m/s²")),
        ("feet that stand slide at", figure("foot_slide_m_s", "{:.1f} mm/s", 1000)),
        ("a foot drifts while it stands, mean of all stands", figure("foot_drift_m", "{:.0f} mm", 1000)),
        ("the same, worst", figure("foot_drift_worst_m", "{:.0f} mm", 1000)),
        ("height", figure("height_m", "{:.2f} m")),
        ("focal length", figure("focal_px", "{:.0f} px") + (", given" if record.get("focal_known") else ", estimated")),
        ("frames", f"{record.get('frames', '-')}, of which {len(record.get('distrusted', {}))} in doubt"),
    ]
    rows += [(f"{name} missed by", f"{miss:.1f} px") for name, miss in record.get("landmark_px", {}).items() if miss is not None]
    return "<table>" + "".join(f'<tr><td>{name}</td><td class="number">{value}</td></tr>' for name, value in rows) + "</table>"


def doubt_table(distrusted: Mapping[str, str], frame_ids: Sequence[int]) -> str:
    """Frames that count for less in the training, and why; runs of one reason in one line."""
    if not distrusted:
        return "<p>None.</p>"
    rows, previous = [], None
    order = [str(f) for f in frame_ids]
    for frame in sorted(distrusted, key=order.index):
        place, why = order.index(frame), distrusted[frame]
        if previous is not None and previous == (place - 1, why):
            rows[-1][1] = frame
        else:
            rows.append([frame, frame, why])
        previous = (place, why)
    cells = (f"<tr><td>{a if a == b else f'{a} to {b}'}</td><td>{html.escape(why)}</td></tr>" for a, b, why in rows)
    return "<table><tr><th>frame</th><th>why</th></tr>" + "".join(cells) + "</table>"


def joint_map(spread: Float[np.ndarray, "F J"], joint_names: Sequence[str], frame_ids: Sequence[int]) -> str:
    """Expected errors of all joints over the clip as SVG, the mean of each row in mm beside its name; the root is left out."""
    columns = np.array_split(np.arange(len(spread)), min(len(spread), MAP_COLUMNS))
    step, height = (CHART_WIDTH - MAP_LEFT) / len(columns), MAP_ROW * (spread.shape[1] - 1)
    parts = []
    for row, name in enumerate(joint_names[1:]):
        values, y = 1000 * spread[:, row + 1], MAP_ROW * row
        parts.append(f'<text x="4" y="{y + 10}">{html.escape(name.replace("_", " "))}</text><text x="{MAP_LEFT - 8}" y="{y + 10}" text-anchor="end">{values.mean():.0f}</text>')
        for k, frames in enumerate(columns):
            dark = float(np.clip(values[frames].mean() / SPREAD_TOP_MM, 0, 1))
            parts.append(f'<rect x="{MAP_LEFT + k * step:.1f}" y="{y}" width="{step + 0.3:.1f}" height="{MAP_ROW}" opacity="{dark:.2f}"/>')
    return (
        f'<svg class="map" viewBox="0 0 {CHART_WIDTH} {height + 18}">{"".join(parts)}<text x="{MAP_LEFT}" y="{height + 13}">frame {frame_ids[0]}</text>'
        f'<text x="{CHART_WIDTH - 4}" y="{height + 13}" text-anchor="end">frame {frame_ids[-1]}</text></svg>'
    )


def chart(values: Float[np.ndarray, "F"], doubted: Sequence[int], frame_ids: Sequence[int]) -> str:
    """One value over the clip as SVG; gaps where it is not finite."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return "<p>Not known in any frame.</p>"
    top, count = float(finite.max()) or 1.0, len(values)
    step = CHART_WIDTH / max(count, 1)
    bars = "".join(f'<rect class="bad" x="{row * step:.1f}" y="0" width="{max(step, 1):.1f}" height="{CHART_HEIGHT}"/>' for row in doubted)
    path, pen = [], "M"
    for row, value in enumerate(values):
        if np.isfinite(value):
            path.append(f"{pen}{(row + 0.5) * step:.1f} {(CHART_HEIGHT - 6) * (1 - value / top) + 4:.1f}")
            pen = "L"
        else:
            pen = "M"
    return (
        f'<svg viewBox="0 0 {CHART_WIDTH} {CHART_HEIGHT + 18}">{bars}<line class="edge" x1="0" x2="{CHART_WIDTH}" y1="{CHART_HEIGHT}" '
        f'y2="{CHART_HEIGHT}"/><path class="line" d="{" ".join(path)}"/><text x="4" y="13">{top:.3g}</text>'
        f'<text x="4" y="{CHART_HEIGHT + 13}">frame {frame_ids[0]}</text><text x="{CHART_WIDTH - 4}" y="{CHART_HEIGHT + 13}" '
        f'text-anchor="end">frame {frame_ids[-1]}</text></svg>'
    )
