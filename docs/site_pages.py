"""Pages of the site that are written from the code when it is built: the command line, the settings, the modules.

A hook of MkDocs (mkdocs.yml names it). The pages are made in memory, so that nothing in docs/ can fall behind the code.
Modules are read, never imported; the command line is asked for its own help.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import click
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

PROJECT = Path(__file__).resolve().parents[1]
ROOMS = ("model", "tasks")
PLACEHOLDER = re.compile(r"<([a-z][a-z_]*\d?)>")
TAGS = frozenset(
    "a b blockquote br code dd details div dl dt em h1 h2 h3 h4 h5 h6 hr i li nav ol p pre section span strong sub summary sup table tbody td th thead tr ul".split()
)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add decisions and packages to the navigation, behind what mkdocs.yml names."""
    config.nav = full_nav(config.nav)
    return config


def on_page_content(html: str, **_: object) -> str:
    """Show placeholders of docstrings, such as <subject>, which a browser would take for tags of its own."""
    return PLACEHOLDER.sub(lambda found: found[0] if found[1] in TAGS else f"&lt;{found[1]}&gt;", html)


def full_nav(nav: list[dict]) -> list[dict]:
    """The navigation of mkdocs.yml with the decisions of docs/adr/ and a page for each package."""
    more = {"Decisions": decisions(), "Reference": [{name: package_page(name)} for name in packages()]}
    return [{title: [*(pages or []), *more[title]] if title in more else pages for title, pages in entry.items()} for entry in nav]


def decisions() -> list[dict[str, str]]:
    """Title -> page of each decision record, by number."""
    pages = sorted((PROJECT / "docs" / "adr").glob("*.md"))
    return [{path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ").strip(): f"adr/{path.name}"} for path in pages]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the written pages to those of docs/."""
    from mkdocs.structure.files import File

    for path, text in written_pages().items():
        files.append(File.generated(config, path, content=text))
    return files


def written_pages() -> dict[str, str]:
    """Path on the site -> markdown."""
    pages = {"reference/command-line.md": command_line_page(), "reference/settings.md": settings_page()}
    return pages | {package_page(name): modules_page(name, modules) for name, modules in packages().items()}


# ---------------------------------------------------------------------------------------------------------- modules


def package_page(package: str) -> str:
    """Where the page of a package is."""
    return f"reference/{package}.md"


def packages() -> dict[str, list[str]]:
    """Package -> its public modules, as dotted names; the package itself first, if it says anything."""
    found: dict[str, list[str]] = {}
    for room in ROOMS:
        for path in sorted((PROJECT / room).rglob("*.py")):
            parts = path.relative_to(PROJECT).with_suffix("").parts
            if parts[-1] == "__init__":
                if path.stat().st_size:
                    found.setdefault(".".join(parts[:-1]), []).insert(0, ".".join(parts[:-1]))
            elif not parts[-1].startswith("_"):
                found.setdefault(".".join(parts[:-1]), []).append(".".join(parts))
    return dict(sorted(found.items()))


def modules_page(package: str, modules: list[str]) -> str:
    """A page that mkdocstrings fills with the docstrings of a package's modules."""
    blocks = []
    for module in modules:
        options = "\n    options:\n      members: false" if module == package else ""
        blocks.append(f"::: {module}{options}")
    return f"# {package}\n\n" + "\n\n".join(blocks) + "\n"


# ---------------------------------------------------------------------------------------------------- command line


def command_line_page() -> str:
    """Every command with its help and its options, from the program itself."""
    sys.path.insert(0, str(PROJECT))  # MkDocs is run as a program of its own
    try:
        import typer

        from commands.main import EPILOG, app
    finally:
        sys.path.remove(str(PROJECT))
    group = typer.main.get_command(app)
    parts = [
        "# Command line",
        f"{group.help} Paths are relative to where you type the command; the project is found from there upwards. A command ends with "
        "status 2 where its input is at fault, and says what to do; with 130 after Ctrl-C.",
        EPILOG.replace("\n", " "),
        "In the virtual environment (`source .venv/bin/activate`):",
        *(command_text(name, command) for name, command in group.commands.items()),
    ]
    return "\n\n".join(parts) + "\n"


def command_text(name: str, command: click.Command) -> str:
    """One command: what it does, examples, arguments and options."""
    # click's marks become markdown, angle brackets must not become tags
    about, _, examples = (command.help or "").replace("[bold]", "`").replace("[/bold]", "`").replace("\\[", "[").partition("Example")
    parts = [f"## avatar {name}", about.strip().replace("<", "&lt;")]
    lines = [line.strip() for line in examples.lstrip("s:").splitlines() if line.strip()]
    if lines:
        parts.append("```text\n" + "\n".join(lines) + "\n```")
    rows = []
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            names = f"`{parameter.name}`"
        else:
            names = ", ".join(f"`{word}`" for word in (*parameter.opts, *parameter.secondary_opts))
        default = {True: "on", False: "off"}.get(parameter.default, f"`{parameter.default}`") if isinstance(parameter.default, bool | str | int | float) else ""
        start = "required" if parameter.required else default
        what = (getattr(parameter, "help", None) or "").replace("|", "&#124;").replace("<", "&lt;")
        rows.append(f"| {names} | {what} | {start} |")
    if rows:
        parts.append("\n".join(["| | what | when left out |", "|---|---|---|", *rows]))
    return "\n\n".join(parts)


# --------------------------------------------------------------------------------------------------------- settings


def settings_page() -> str:
    """params.yaml as it stands, comments and all."""
    text = (PROJECT / "params.yaml").read_text(encoding="utf-8")
    return (
        "# Settings\n\nEvery value of the pipeline is in `params.yaml`, with its unit; there are no other defaults. Unknown keys, wrong "
        "types and values out of range are refused with the key, what was expected and what came (`tasks/settings.py`). A section is "
        "read by the stage of its name, so changing a value reruns that stage and those after it.\n\n"
        f"```yaml\n{text}```\n"
    )
