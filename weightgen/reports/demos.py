"""The demos: one table of what each does not share with the others, and the chain of stages that all share."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from weightgen.reports.stages import Stage, add_recipe


class Demo(NamedTuple):
    """What a demo does not share with the others.

    Attributes:
        prompt: the default question.
        prepare: the command that makes a folder with images/ and dataset/; `--output-dir` is added.
        configs: the YAML files recipes/configs/RECIPE/ that it uses are called so, or begin so.
        settings: recipe → further settings; "{source}" in them stands for the folder that `prepare` makes. Without those of "embed",
            `prepare` makes the features too.
        start: the stage where adaptation starts.
        answers: the stage whose pipeline answers the prompt, the one that validation tasks prefer: "pipeline" is HyperLDM,
            "point_pipeline" the hypernetwork of Cond. Multitask without diffusion.
    """

    prompt: str
    prepare: list[str]
    configs: str
    settings: dict[str, dict[str, object]]
    start: str = "maml"
    answers: str = "pipeline"


DEMOS = {
    "photos": Demo(
        prompt="Does it have wheels?",
        prepare=["data/photos/prepare.py", "--shipped"],
        configs="photos",
        settings={"evaluate": {"lrs": [3.0, 10.0, 30.0], "logistic_c": [1.0, 10.0, 100.0]}},
        start="multitask",
    ),
    "scenes": Demo(
        prompt="What color is the star?",
        prepare=["data/scenes/prepare.py"],
        configs="scenes_tokens",
        settings={
            "embed": {
                "model": "data/scenes/clip",
                "name": "tokens",
                "tokens": 8,
                "dtype": "half",
                "batch_size": 256,
            },
            # Steps on image tokens take long: fewer than in the other demo, and of one size.
            "evaluate": {"steps": 20, "lrs": [3.0], "shots": "[1,null]", "logistic_c": [10.0]},
        },
        start="cond_multitask",
        answers="point_pipeline",
    ),
}


def demo_stages(out: Path, name: str, seed: int = 0) -> dict[str, Stage]:
    """The stages of a demo by name, in order; `seed` is that of every training."""
    demo, source = DEMOS[name], out / name
    data = source / "dataset"
    found = {name: Stage(source, [*demo.prepare, "--output-dir", str(source)])}

    def settings(recipe: str) -> dict[str, object]:
        own = demo.settings.get(recipe, {})
        return {
            "dataset": data,
            **{key: str(value).replace("{source}", str(source)) for key, value in own.items()},
        }

    data_stage = name
    if "embed" in demo.settings:
        embed = {"images": source / "images", **settings("embed")}
        words = [f"{key}={value}" for key, value in embed.items()]
        data_stage = "features"
        makes = data / "features" / str(embed["name"])
        found[data_stage] = Stage(makes, ["recipes/embed.py", *words], (name,))

    def add(stage: str, recipe: str, variant: str = "", **of: str) -> None:
        paths = (out / stage, f"recipes/{recipe}.py", f"{recipe}/{demo.configs}{variant}")
        add_recipe(found, stage, *paths, of, {**settings(recipe), "seed": seed}, needs=(data_stage,))

    add("multitask", "train_hypernet")
    add("maml", "train_hypernet", "_maml", start="multitask")
    add("cond_multitask", "train_hypernet", "_conditional", start="multitask")
    add("adapted", "adapt_tasks", start=demo.start)
    add("hvae", "train_hvae", adapted="adapted")
    add("pipeline", "train_hyperldm", adapted="adapted", hvae="hvae")
    if demo.answers == "point_pipeline":
        point = (out / demo.answers, "recipes/make_pipeline.py")
        of, where = {"hypernet": "cond_multitask"}, {"dataset": data}
        add_recipe(found, demo.answers, *point, of=of, settings=where, needs=(data_stage,))
    parts = {key: key for key in ("pipeline", "multitask", "cond_multitask", "adapted")} | {"start": "maml"}
    report = (out / "report.json", "recipes/evaluate.py")
    add_recipe(
        found, "evaluate", *report, of=parts, settings=settings("evaluate"), needs=(data_stage,), cheap=True
    )
    return found
