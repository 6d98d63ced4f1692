"""The demos: one table of what each does not share with the others, and the chain of stages that all share."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from weightgen.reports.stages import Stage, add_recipe


class Demo(NamedTuple):
    """What a demo does not share with the others.

    Attributes:
        prompt: the default question.
        prepare: the script that makes the folder `--output-dir`, with images/ and dataset/.
        embed: settings of the recipe that embeds images and texts.
        configs: the YAML files in recipes/configs/*/ are called so, or begin so.
        shorter: settings of train_hyperldm.
    """

    prompt: str
    prepare: str
    embed: dict[str, object]
    configs: str
    shorter: dict[str, object]


DEMOS = {
    # In the tables, HyperLDM has 1500 steps, which give about a point more: the demo is to take five minutes.
    "scenes": Demo(
        "What color is the star?", "data/scenes/prepare.py", {"model": "data/scenes/clip", "batch_size": 256},
        "scenes", {"steps": 600, "validate_every": 200},
    ),
}  # fmt: skip


def demo_stages(out: Path, name: str) -> dict[str, Stage]:
    """The stages of a demo by name, in order."""
    demo, source = DEMOS[name], out / name
    data = source / "dataset"
    embed = {"dataset": data, "images": source / "images", "name": "clip", **demo.embed}
    found = {
        name: Stage(source, [demo.prepare, "--output-dir", str(source)]),
        "features": Stage(
            data / "features/clip",
            ["recipes/embed.py", *(f"{key}={value}" for key, value in embed.items())],
            (name,),
        ),
    }

    def add(stage: str, recipe: str, variant: str = "", **of: str) -> None:
        extra: dict[str, object] = demo.shorter if recipe == "train_hyperldm" else {}
        paths = (out / stage, f"recipes/{recipe}.py", f"{recipe}/{demo.configs}{variant}")
        add_recipe(found, stage, *paths, of, {"dataset": data, **extra}, needs=("features",))

    add("multitask", "train_hypernet")
    add("maml", "train_hypernet", "_maml", start="multitask")
    add("cond_multitask", "train_hypernet", "_conditional", start="multitask")
    add("adapted", "adapt_tasks", start="maml")
    add("hvae", "train_hvae", adapted="adapted")
    add("pipeline", "train_hyperldm", adapted="adapted", hvae="hvae")
    parts = {key: key for key in ("pipeline", "multitask", "cond_multitask", "adapted")} | {"start": "maml"}
    report = (out / "report.json", "recipes/evaluate.py")
    add_recipe(
        found, "evaluate", *report, of=parts, settings={"dataset": data}, needs=("features",), cheap=True
    )
    return found
