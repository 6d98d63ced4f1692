"""Run the tutorials as notebooks, from the root of the repository, and say how long each takes.

python docs/run_tutorials.py [NAME ...]
"""

import sys
import time
from pathlib import Path

import jupytext
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).resolve().parents[1]
LONGEST = 300  # seconds that a cell may take


def main(names: list[str]) -> None:
    paths = sorted((ROOT / "docs" / "tutorials").glob("*.py"))
    if unknown := set(names) - {path.stem for path in paths}:
        raise SystemExit(
            f"error: no tutorial {min(unknown)}: choose from {', '.join(path.stem for path in paths)}"
        )
    for path in paths:
        if names and path.stem not in names:
            continue
        begin = time.perf_counter()
        notebook = jupytext.read(path)
        try:
            NotebookClient(
                notebook, timeout=LONGEST, kernel_name="python3", resources={"metadata": {"path": ROOT}}
            ).execute()
        except CellExecutionError as error:
            raise SystemExit(f"error: {path.relative_to(ROOT)} fails:\n{error}") from error
        print(f"{path.stem}: {time.perf_counter() - begin:.0f} s", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
