"""What the documentation says stands in the project: settings, files, stages, links; and the site builds from it."""

from __future__ import annotations

import ast
import copy
import importlib
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import typer
from ruamel.yaml import YAML

from commands.main import app
from tasks.errors import InputError
from tasks.settings import check_settings

PROJECT = Path(__file__).parents[2]
DOCS = PROJECT / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if "no_truth" not in path.parts)
TEXTS = [*PAGES, PROJECT / "README.md"]
ROOMS = ("benchmarks", "commands", "demo", "docs", "flows", "model", "tasks", "teaching", "tests", "viewer")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
every_text = pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(PROJECT)))


def load_yaml(text: str) -> dict:
    return YAML(typ="safe", pure=True).load(text)


PARAMS = load_yaml((PROJECT / "params.yaml").read_text())
STAGES = load_yaml((PROJECT / "dvc.yaml").read_text())["stages"]


@pytest.fixture(scope="module")
def site_pages() -> ModuleType:
    """The hook that writes pages of the site from the code."""
    spec = importlib.util.spec_from_file_location("site_pages", DOCS / "site_pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def written(site_pages: ModuleType) -> dict[str, str]:
    return site_pages.written_pages()


def fences(text: str, kind: str) -> list[str]:
    return [body for name, body in FENCE.findall(text) if name == kind]


def spans(text: str) -> list[str]:
    """What stands between backticks outside of fenced blocks."""
    return re.findall(r"`([^`\n]+)`", FENCE.sub("", text))


def merged(values: object, changes: object) -> object:
    if not (isinstance(values, dict) and isinstance(changes, dict)):
        return changes
    return values | {key: merged(values.get(key), change) for key, change in changes.items()}


def missing_key(dotted: str, values: dict = PARAMS) -> str | None:
    """The first part of a.b.c that params.yaml does not have."""
    for part in dotted.split("."):
        if not isinstance(values, dict) or part not in values:
            return part
        values = values[part]
    return None


# ---------------------------------------------------------------------------------------------------- settings, code


@every_text
def test_settings_blocks_fit_params_yaml(path: Path) -> None:
    for body in fences(path.read_text(encoding="utf-8"), "yaml"):
        check_settings(merged(copy.deepcopy(PARAMS), load_yaml(body)), name=path.name)


def test_a_settings_block_with_a_wrong_key_or_value_is_noticed() -> None:
    for wrong in ({"fit_smpl": {"importt": "x"}}, {"preset": "fast"}, {"render": {"backend": "cuda"}}):
        with pytest.raises(InputError):
            check_settings(merged(copy.deepcopy(PARAMS), wrong), name="docs")


@every_text
def test_settings_named_in_a_sentence_exist(path: Path) -> None:
    for span in spans(path.read_text(encoding="utf-8")):
        key = re.match(r"([a-z_]\w*(?:\.\w+)+)(?=$|:)", span)
        if key and key[1].split(".")[0] in PARAMS and not key[1].endswith((".py", ".md", ".yaml", ".json")):
            assert missing_key(key[1]) is None, f"{path.name}: {span}"


@every_text
def test_files_named_in_a_sentence_exist(path: Path) -> None:
    for span in spans(path.read_text(encoding="utf-8")):
        if re.fullmatch(r"[\w./-]+", span) and span.split("/")[0] in ROOMS and "/" in span:
            assert (PROJECT / span).exists() or (PROJECT / f"{span}.py").exists(), f"{path.name}: {span}"


@every_text
def test_python_blocks_compile_and_import_what_there_is(path: Path) -> None:
    for body in fences(path.read_text(encoding="utf-8"), "python"):
        for node in ast.walk(ast.parse(body)):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module)
                assert all(hasattr(module, alias.name) for alias in node.names), ast.unparse(node)


# ----------------------------------------------------------------------------------------------------- the pipeline


def test_the_pipeline_page_has_every_stage_with_what_it_reads_and_writes() -> None:
    rows = re.findall(r"^\| `(\w+)` \|[^|]*\|([^|]*)\|([^|]*)\|", (DOCS / "pipeline.md").read_text(), re.MULTILINE)
    assert [name for name, _, _ in rows] == list(STAGES)
    for name, reads, writes in rows:
        folders = {Path(str(dep)).name for dep in STAGES[name]["deps"] if str(dep).startswith(("work/", "results/"))}
        if "everything above" not in reads:
            assert set(re.findall(r"`([\w.]+?)/?`", reads)) == folders, name
        for out in STAGES[name]["outs"]:
            (place,) = out
            assert Path(place).name in writes, f"{name} writes {place}"


@every_text
def test_chains_of_stages_are_the_pipeline(path: Path) -> None:
    for chain in re.findall(r"\w+(?: -> \w+){4,}", path.read_text(encoding="utf-8")):
        assert [name for name in chain.split(" -> ") if name != "video"] == [name for name in STAGES if name != "make_demo"]


# -------------------------------------------------------------------------------------------------- links, the site


@every_text
def test_links_lead_somewhere(path: Path, written: dict[str, str]) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", path.read_text(encoding="utf-8"))):
        if "://" in target or target.startswith("#"):
            continue
        place = (path.parent / target.split("#")[0]).resolve()
        made = place.is_relative_to(DOCS) and place.relative_to(DOCS).as_posix() in written
        assert place.exists() or made, f"{path.name}: {target}"


def test_every_page_is_in_the_navigation_once(site_pages: ModuleType, written: dict[str, str]) -> None:
    def leaves(entry: object) -> list[str]:
        children = entry.values() if isinstance(entry, dict) else entry if isinstance(entry, list) else None
        return [str(entry)] if children is None else [leaf for child in children for leaf in leaves(child)]

    listed = leaves(site_pages.full_nav(load_yaml((PROJECT / "mkdocs.yml").read_text())["nav"]))
    assert sorted(listed) == sorted([*(path.relative_to(DOCS).as_posix() for path in PAGES), *written])


def test_the_command_line_page_has_every_command_and_option(written: dict[str, str]) -> None:
    page = written["reference/command-line.md"]
    for name, command in typer.main.get_command(app).commands.items():
        part = page.split(f"\n## avatar {name}\n")[1].split("\n## ")[0]
        for parameter in command.params:
            names = parameter.opts if parameter.param_type_name == "option" else [parameter.name]
            assert all(f"`{word}`" in part for word in names), f"avatar {name}: {names}"
    assert "<subject>" not in re.sub(r"`[^`]*`", "", page), "a tag to a browser"


def test_the_reference_has_every_public_module_once(written: dict[str, str]) -> None:
    shown = re.findall(r"^::: ([\w.]+)", "\n".join(written.values()), re.MULTILINE)
    files = [path for room in ("model", "tasks") for path in (PROJECT / room).rglob("*.py") if path.name[0] != "_"]
    modules = {".".join(path.relative_to(PROJECT).with_suffix("").parts) for path in files}
    assert len(shown) == len(set(shown)) and modules <= set(shown)


def test_the_settings_page_is_params_yaml(written: dict[str, str]) -> None:
    (body,) = fences(written["reference/settings.md"], "yaml")
    assert load_yaml(body) == PARAMS


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_fetches_nothing(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="the site's builder is not installed; run: make docs")
    pytest.importorskip("material", reason="the site's theme is not installed; run: make docs")
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(PROJECT)}
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)], cwd=PROJECT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "no_truth").exists()
    for page in tmp_path.rglob("*.html"):
        fetched = re.findall(r"<(?:script|img|iframe|link)[^>]*?(?:src|href)=\"?(?:https?:)?//[^\s>]*", page.read_text(encoding="utf-8"))
        assert not fetched, f"{page.name}: {fetched}"
    assert "<subject>" not in (tmp_path / "reference/tasks.html").read_text(encoding="utf-8"), "a tag to a browser"
    import model.body.skinning as skinning

    sentence = skinning.__doc__.splitlines()[0]
    assert sentence in (tmp_path / "reference/model.body.html").read_text(encoding="utf-8")
