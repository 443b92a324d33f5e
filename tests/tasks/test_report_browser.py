"""The report in a real browser: it draws itself without an error, and the handle between two pictures moves."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tasks.report import build_report

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PROBE = """
<script>
const found = { errors: [] };
window.onerror = text => { found.errors.push(String(text)); };
</script>
"""
ACT = """
<script>
const box = document.querySelector(".ba"), range = box.querySelector("input");
const press = name => [...document.querySelectorAll("button")].find(button => button.textContent === name).click();
const state = () => ({ cut: box.style.getPropertyValue("--cut"), names: [...box.querySelectorAll("span")].map(span => span.textContent) });
found.start = state();
range.focus(); found.focused = document.activeElement === range;
range.value = 20; range.dispatchEvent(new Event("input")); found.moved = state();
press("Stage 1 | Stage 2"); found.stages = state();
press("fitted | refined pose"); found.poses = state();
found.titles = [...document.querySelectorAll("section h2")].map(node => node.textContent);
found.loaded = [...document.images].filter(image => !image.src.startsWith("data:image/")).length;
document.title = JSON.stringify(found);
</script>
"""


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine (Debian: apt install chromium)")
def test_the_page_draws_itself_and_the_handle_moves(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("report_beside", Path(__file__).with_name("test_report.py"))
    beside = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(beside)
    page = build_report(beside.a_report()).replace("<main", PROBE + "<main", 1).replace("</body>", ACT + "</body>")
    (tmp_path / "report.html").write_text(page)
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", f"--user-data-dir={tmp_path / 'user'}"]
    out = subprocess.run([*command, "--dump-dom", f"file://{tmp_path / 'report.html'}"], capture_output=True, text=True, timeout=60, check=True)
    found = json.loads(re.search(r"<title>(.*?)</title>", out.stdout)[1].replace("&amp;", "&"))
    assert found["errors"] == [] and found["loaded"] == 0
    assert found["start"] == {"cut": "50%", "names": ["video", "Stage 2"]} and found["focused"]
    assert found["moved"]["cut"] == "20%"
    assert found["stages"] == {"cut": "20%", "names": ["Stage 1", "Stage 2"]}, "the handle stays where it was put"
    assert found["poses"]["names"] == ["fitted", "refined"]
    assert {"Before and after", "What the camera saw", "How to film better", "Doubts of the body fit"} <= set(found["titles"])
