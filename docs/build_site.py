"""Build the site in site/, and check that its pages ask no other host for anything.

    python docs/build_site.py

The pages are laid out in build/pages as in the repository, so that a link works here and there. Tutorials become pages,
and each room of the package a page of its docstrings.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jupytext
import yaml

ROOT = Path(__file__).resolve().parents[1]
PAGES, SITE = ROOT / "build" / "pages", ROOT / "site"
COPIED = ("*.md", "LICENSE", "CITATION.cff", "docs/**/*.md", "docs/**/*.png", "results/**/*.md", "results/**/*.png", "results/**/*.json",
          "recipes/README.md", "data/*/README.md", "data/*/*.py")  # fmt: skip
ROOMS = (
    *("pipelines", "protocols", "weights", "tasks", "shots", "adaptation", "metrics", "errors", "networks"),
    *("hypernets", "encoders", "priors", "guidance", "objectives", "data", "evaluation", "nn", "storage"),
)
# What a browser fetches by itself; a link that a reader clicks may lead anywhere.
FETCHED = re.compile(
    r"<(?:script|img|iframe|source|video|audio)\b[^>]*?\ssrc=[\"']?((?:https?:)?//[^\"'\s>]+)"
    r"|<link\b(?=[^>]*\brel=[\"']?(?:stylesheet|preload|preconnect|icon|modulepreload))[^>]*?\shref=[\"']?((?:https?:)?//[^\"'\s>]+)"
    r"|(?:url\(|@import\s)[\"']?((?:https?:)?//[^\"')\s]+)"
)


def lay_out() -> None:
    """Copy the pages, turn tutorials into Markdown, and write the pages of the reference."""
    shutil.rmtree(PAGES, ignore_errors=True)
    for pattern in COPIED:
        for path in ROOT.glob(pattern):
            target = PAGES / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    for path in (ROOT / "docs" / "tutorials").glob("*.py"):
        text = jupytext.writes(jupytext.read(path), fmt="md")
        text = re.sub(r"\A---\n.*?\n---\n+", "", text, flags=re.DOTALL)  # the notebook's own header
        (PAGES / "docs" / "tutorials" / f"{path.stem}.md").write_text(text)
    (PAGES / "reference").mkdir()
    for room in ROOMS:
        page = f"# weightgen.{room}\n\n" + "\n\n".join(f"::: {name}" for name in modules(room)) + "\n"
        (PAGES / "reference" / f"{room}.md").write_text(page)


def modules(room: str) -> Iterator[str]:
    """The dotted names of the modules of a room that have public names of their own."""
    package = ROOT / "weightgen"
    paths = sorted((package / room).rglob("*.py")) or [package / f"{room}.py"]
    for path in paths:
        if path.name != "__init__.py":
            yield ".".join(path.relative_to(ROOT).with_suffix("").parts)


def settings() -> Path:
    """The settings of the site, with a page for each room."""
    found = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    *pages, last = found["nav"]
    assert last == {"Reference": "reference/"}
    found["nav"] = [*pages, {"Reference": [{room: f"reference/{room}.md"} for room in ROOMS]}]
    found["docs_dir"], found["site_dir"] = str(PAGES), str(SITE)
    python = found["plugins"][1]["mkdocstrings"]["handlers"]["python"]
    python["paths"] = [str(ROOT)]
    python["options"]["extensions"] = [str(ROOT / each) for each in python["options"]["extensions"]]
    path = PAGES.with_name("mkdocs.yml")
    path.write_text(yaml.safe_dump(found, sort_keys=False))
    return path


def fetched_from_elsewhere(folder: Path) -> list[str]:
    """What pages and style sheets fetch from another host, one line each."""
    paths = [path for kind in ("html", "css") for path in sorted(folder.rglob(f"*.{kind}"))]
    return [
        f"{path.relative_to(folder)}: {next(filter(None, match.groups()))}"
        for path in paths
        for match in FETCHED.finditer(path.read_text(encoding="utf-8"))
    ]


def main() -> None:
    lay_out()
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--clean"]
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}  # an advertisement of another builder
    if subprocess.run([*build, "--config-file", str(settings())], cwd=ROOT, env=quiet).returncode:
        raise SystemExit("error: the site was not built: mend what the lines above name")
    if foreign := fetched_from_elsewhere(SITE):
        raise SystemExit("error: these pages fetch from another host:\n" + "\n".join(foreign))
    pages = len(list(SITE.rglob("*.html")))
    print(
        f"{SITE.relative_to(ROOT)}: {pages} pages; open site/index.html, or: python -m http.server --directory site"
    )


if __name__ == "__main__":
    main()
