"""The pages: numbers come from the results, every page is in the site's list, every tutorial is one that runs."""

import importlib.util
import json
import re

import pytest
import yaml


def script(root, name):
    spec = importlib.util.spec_from_file_location(f"docs_{name}", root / f"docs/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_decision_table_is_what_its_command_makes(root):
    made = script(root, "which_method").page(json.loads((root / "results/photos/table.json").read_text()))
    assert (root / "docs/which_method.md").read_text() == made, "run: python docs/which_method.py"


def pages(nav):
    for each in nav:
        found = next(iter(each.values())) if isinstance(each, dict) else each
        yield from pages(found) if isinstance(found, list) else [found]


def test_every_page_and_tutorial_is_in_the_list(root):
    listed = set(pages(yaml.safe_load((root / "mkdocs.yml").read_text())["nav"]))
    written = {str(path.relative_to(root)) for path in (root / "docs").rglob("*.md")}
    tutorials = {f"docs/tutorials/{path.stem}.md" for path in (root / "docs/tutorials").glob("*.py")}
    assert len(tutorials) >= 7 and written | tutorials <= listed
    assert all((root / page).exists() for page in listed - tutorials - {"reference/"})


def test_links_between_pages_lead_somewhere_in_the_site(root, tmp_path, monkeypatch):
    pytest.importorskip("jupytext")
    site = script(root, "build_site")
    monkeypatch.setattr(site, "PAGES", tmp_path / "pages")
    site.lay_out()
    texts = {path: path.read_text() for path in site.PAGES.rglob("*.md")}
    links = [
        (path, link) for path, text in texts.items() for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text)
    ]
    inside = [(path, link) for path, link in links if ":" not in link]
    assert len(inside) > 30
    assert [(path.name, link) for path, link in inside if not (path.parent / link).exists()] == []


@pytest.mark.parametrize(
    ("page", "count"),
    [
        ('<link href="https://fonts.gstatic.com" rel=preconnect crossorigin>', 1),
        ("<script src=//cdn.example.org/a.js></script>", 1),
        ('<img alt="" src="https://example.org/a.png">', 1),
        ("<style>@font-face{src:url(https://example.org/a.woff)}</style>", 1),
        ('<a href="https://example.org">x</a><script src="../a.js"></script><link rel=canonical href="https://x.org">', 0),
    ],
)  # fmt: skip
def test_what_a_page_fetches_from_elsewhere_is_seen(page, count, root, tmp_path):
    pytest.importorskip("jupytext")
    (tmp_path / "a.html").write_text(page)
    assert len(script(root, "build_site").fetched_from_elsewhere(tmp_path)) == count
