"""Files about the project agree with one another."""

import re

import yaml

from weightgen import __version__


def test_every_file_names_the_same_version(root):
    assert yaml.safe_load((root / "CITATION.cff").read_text())["version"] == __version__
    headings = re.findall(r"^## \[(.+?)\]", (root / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[:2] == ["Unreleased", __version__]


def test_pre_commit_runs_what_make_lint_runs(root):
    hooks = yaml.safe_load((root / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    recipe = re.search(r"^lint: .*\n((?:\t.*\n)+)", (root / "Makefile").read_text(), re.MULTILINE)[1]
    commands = [line.strip().replace("$(VENV)", ".venv") for line in recipe.splitlines()]
    assert [hook["entry"] for hook in hooks] == commands


def test_workflows_run_targets_that_exist(root):
    targets = set(re.findall(r"^([\w-]+):", (root / "Makefile").read_text(), re.MULTILINE))
    for path in (root / ".github/workflows").glob("*.yml"):
        jobs = yaml.safe_load(path.read_text())["jobs"].values()
        steps = [step.get("run", "") for job in jobs for step in job["steps"]]
        made = [step.split()[1] for step in steps if step.startswith("make ")]
        assert made and set(made) <= targets
