"""The whole path on Scenes, with small settings: from rendered pictures to a classifier sampled for your prompt.

    make demo PROMPT="What color is the star?"        or        python recipes/demo.py prompt="What color is the star?"

Stages whose output is there already are reused. A stage that is interrupted leaves nothing behind and is done again the next time.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from weightgen.data.features.images import ImageStore
from weightgen.data.meta_vqa.disk import load_meta_vqa
from weightgen.data.scenes.questions import all_meanings
from weightgen.errors import InputError, one_line_errors
from weightgen.pipelines.weight_pipeline import WeightPipeline
from weightgen.reports.figures import contact_sheet
from weightgen.reports.stages import Stage, run_stages
from weightgen.storage.files import read_json, write_json, written_beside
from weightgen.training.config import parse

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = "recipes/configs"


@dataclass
class Config:
    prompt: str = "What color is the star?"
    output: str = "runs/demo"
    num_samples: int = 8
    guidance_scale: float = 1.5
    seed: int = 0


def stages(out: Path) -> dict[str, Stage]:
    """The stages by name, in order."""
    scenes, data = out / "scenes", out / "scenes/dataset"

    def recipe(name: str, variant: str, **settings: object) -> list[str]:
        words = [f"{key}={value}" for key, value in settings.items()]
        return [
            f"recipes/{name}.py",
            "--config",
            f"{CONFIGS}/{name}/{variant}.yaml",
            f"dataset={data}",
            *words,
        ]

    hypernet, adapted, hvae = "train_hypernet", out / "adapted", out / "hvae"
    pipeline, multitask, maml, conditional = (
        out / n for n in ("pipeline", "multitask", "maml", "cond_multitask")
    )
    report = ["recipes/evaluate.py", f"dataset={data}", f"pipeline={pipeline}", f"multitask={multitask}"]
    embed = [
        "recipes/embed.py",
        f"dataset={data}",
        f"images={scenes / 'images'}",
        "model=data/scenes/clip",
        "batch_size=256",
    ]
    return {
        "scenes": Stage(scenes, ["data/scenes/prepare.py", "--output-dir", str(scenes)]),
        "features": Stage(data / "features/clip", [*embed, "name=clip"]),
        "multitask": Stage(multitask, recipe(hypernet, "scenes", output=multitask)),
        "maml": Stage(maml, recipe(hypernet, "scenes_maml", start=multitask, output=maml)),
        "cond_multitask": Stage(
            conditional, recipe(hypernet, "scenes_conditional", start=multitask, output=conditional)
        ),
        "adapted": Stage(adapted, recipe("adapt_tasks", "scenes", start=maml, output=adapted)),
        "hvae": Stage(hvae, recipe("train_hvae", "scenes", adapted=adapted, output=hvae)),
        "hyperldm": Stage(
            pipeline,
            # Shorter than in the tables, where 1500 steps give about a point more: the demo is to take five minutes.
            recipe(
                "train_hyperldm",
                "scenes",
                adapted=adapted,
                hvae=hvae,
                output=pipeline,
                steps=600,
                validate_every=200,
            ),
        ),
        "evaluate": Stage(
            out / "report.json",
            [*report, f"cond_multitask={conditional}", f"adapted={adapted}", f"output={out / 'report.json'}"],
        ),
    }


def nearest_task(prompt: str, splits: Mapping[str, Any]) -> dict[str, Any]:
    """The task whose pictures are shown: one of the prompt's own meaning if Scenes has one, else the one that shares most words."""
    rows = [row for name in ("test", "novel_composition", "validation", "train") for row in splits[name]]
    ways = (set(meaning.paraphrases()) for meaning in all_meanings())
    same = next((questions for questions in ways if prompt in questions), set())

    def likeness(row: dict[str, Any]) -> tuple[bool, bool, float]:
        a, b = (set(re.findall(r"\w+", text.lower())) for text in (prompt, row["question"]))
        return row["question"] == prompt, row["question"] in same, len(a & b) / len(a | b)

    return max(rows, key=likeness)


def answer_prompt(cfg: Config, out: Path) -> None:
    """Sample classifiers for the prompt and try them on the pictures of the task that shares most words with it."""
    pipe = WeightPipeline.from_pretrained(out / "pipeline")
    splits = load_meta_vqa(out / "scenes/dataset")
    task = nearest_task(cfg.prompt, splits)
    exact = task["question"] == cfg.prompt
    generated = pipe(
        cfg.prompt, task["answers"], num_samples=cfg.num_samples, guidance_scale=cfg.guidance_scale,
        generator=torch.Generator().manual_seed(cfg.seed), template=task["template"],
    )  # fmt: skip
    generated.save(out / "weights.safetensors")
    images = ImageStore(out / "scenes/images")
    step = max(1, len(task["query_images"]) // 18)  # rows lie in blocks of one answer: take some of each
    chosen = list(range(0, len(task["query_images"]), step))[:18]
    pictures: list[Image.Image] = [images.open(task["query_images"][i]) for i in chosen]
    classifiers = [generated.classifier(0, k) for k in range(cfg.num_samples)]
    best = torch.stack([c.probabilities(pictures) for c in classifiers]).mean(dim=0).argmax(dim=1).tolist()
    truths = [task["answers"][task["query_labels"][i]] for i in chosen]
    answers = [task["answers"][i] for i in best]
    right = sum(a == t for a, t in zip(answers, truths, strict=True))
    title = f"{cfg.prompt}   {right} of {len(truths)} right, no gradient step"
    sheet = contact_sheet(pictures, answers, truths, f"{title}\npictures of the task: {task['question']}")
    with written_beside(out / "contact_sheet.png", overwrite=True) as partial:
        sheet.save(partial, format="PNG")
    if not exact:
        print(
            f"\nYour prompt is not a question of the data set; answers and pictures are those of {task['question']!r}."
        )
    print(f"{title}: {out / 'contact_sheet.png'}")
    print("\nTo go on in Python:\n")
    print("    from weightgen import WeightPipeline")
    print(f"    pipe = WeightPipeline.from_pretrained({str(out / 'pipeline')!r})")
    print(f"    out = pipe({cfg.prompt!r}, answers={task['answers']}, num_samples={cfg.num_samples})")
    print("    out.classifier(0, 0).predict([image])  # PIL images in, answers out\n")


def main(cfg: Config) -> None:
    if not cfg.prompt.strip():
        raise InputError('expected a question: make demo PROMPT="What color is the star?"')
    out = Path(cfg.output).resolve()
    out.mkdir(parents=True, exist_ok=True)
    seconds = run_stages(stages(out), ROOT, out / "seconds.json")
    write_json(out / "report.json", {**read_json(out / "report.json"), "seconds": seconds})
    answer_prompt(cfg, out)
    print((out / "report.md").read_text())
    names = "report.md report.json accuracies.png guidance.png contact_sheet.png weights.safetensors"
    print(f"In {out}: {names}; the model is in {out / 'pipeline'}")


if __name__ == "__main__":
    with one_line_errors():
        main(parse(Config, __doc__))
