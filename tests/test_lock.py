"""The lock file names public files only, and fits `pyproject.toml`."""

import re
import tomllib

HOSTS = {"https://pypi.org", "https://files.pythonhosted.org"}  # the index, and where it keeps its files


def test_the_lock_names_public_hosts_only(root):
    assert set(re.findall(r"\w+://[^/\"]*", (root / "uv.lock").read_text())) == HOSTS


def test_the_lock_holds_what_the_project_asks_for(root):
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    (own,) = (
        each
        for each in tomllib.loads((root / "uv.lock").read_text())["package"]
        if each["name"] == "weightgen"
    )
    assert set(own["optional-dependencies"]) == project["optional-dependencies"].keys()
    asked = {re.split(r"[<>=\[]", each)[0].replace("_", "-").lower() for each in project["dependencies"]}
    assert {each["name"] for each in own["dependencies"]} == asked
