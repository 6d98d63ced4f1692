"""The whole path with small settings: from a data set to a classifier sampled for your question.

    make demo PROMPT="What color is the star?"     or     python recipes/demo.py demo=scenes prompt="What color is the star?"

Stages whose output is there already are reused. A stage that is interrupted leaves nothing behind and is done again the next time.
Makes report.json, report.md and two figures, contact_sheet.png, weights.safetensors, and the pipeline. 5 minutes on 2 CPU cores.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch.nn.functional import cosine_similarity

from weightgen import WeightPipeline, training
from weightgen.data.features.images import ImageStore
from weightgen.data.meta_vqa.disk import load_meta_vqa
from weightgen.errors import InputError
from weightgen.reports.demos import DEMOS, demo_stages
from weightgen.reports.figures import contact_sheet
from weightgen.reports.stages import run_stages
from weightgen.storage.files import read_json, write_json, written_beside

ROOT = Path(__file__).resolve().parent.parent


@dataclass
class Config:
    demo: str = "scenes"
    prompt: str | None = None  # a question; by default the demo's own
    output: str = "runs/demo"
    num_samples: int = 8
    guidance_scale: float = 1.5
    seed: int = 0


def nearest_task(prompt: str, splits: Mapping[str, Any], encoder: Any) -> dict[str, Any]:
    """The task whose pictures are shown: the prompt's own, else the one whose question the encoder finds most similar."""
    held_out_first = sorted(splits, key=lambda name: (name == "train", name == "validation"))
    rows = [row for name in held_out_first for row in splits[name]]
    questions = [row["question"] for row in rows]
    if prompt in questions:
        return rows[questions.index(prompt)]
    every, mine = encoder.encode_questions(questions), encoder.encode_questions([prompt])
    return rows[int(cosine_similarity(every, mine).argmax())]


def answer_prompt(cfg: Config, prompt: str, out: Path) -> None:
    """Sample classifiers for the prompt, and try them on the pictures of the task whose question is nearest."""
    pipe = WeightPipeline.from_pretrained(out / "pipeline")
    task = nearest_task(prompt, load_meta_vqa(out / cfg.demo / "dataset"), pipe.encoder)
    generated = pipe(
        prompt, task["answers"], num_samples=cfg.num_samples, guidance_scale=cfg.guidance_scale,
        generator=torch.Generator().manual_seed(cfg.seed), template=task["template"],
    )  # fmt: skip
    generated.save(out / "weights.safetensors")
    images = ImageStore(out / cfg.demo / "images")
    step = max(1, len(task["query_images"]) // 18)  # rows lie in blocks of one answer: take some of each
    chosen = list(range(0, len(task["query_images"]), step))[:18]
    pictures: list[Image.Image] = [images.open(task["query_images"][i]) for i in chosen]
    classifiers = [generated.classifier(0, k) for k in range(cfg.num_samples)]
    best = torch.stack([c.probabilities(pictures) for c in classifiers]).mean(dim=0).argmax(dim=1).tolist()
    truths = [task["answers"][task["query_labels"][i]] for i in chosen]
    answers = [task["answers"][i] for i in best]
    right = sum(a == t for a, t in zip(answers, truths, strict=True))
    title = f"{prompt}   {right} of {len(truths)} right, no gradient step"
    sheet = contact_sheet(pictures, answers, truths, f"{title}\npictures of the task: {task['question']}")
    with written_beside(out / "contact_sheet.png", overwrite=True) as partial:
        sheet.save(partial, format="PNG")
    print(f"\n{title}: {out / 'contact_sheet.png'}\nAnswers and pictures are those of {task['question']!r}.")
    print("\nTo go on in Python:\n\n    from weightgen import WeightPipeline")
    print(f"    pipe = WeightPipeline.from_pretrained({str(out / 'pipeline')!r})")
    print(f"    out = pipe({prompt!r}, answers={task['answers']}, num_samples={cfg.num_samples})")
    print("    out.classifier(0, 0).predict([image])  # PIL images in, answers out\n")


def main(cfg: Config) -> None:
    if cfg.demo not in DEMOS:
        raise InputError(f"expected demo to be one of {', '.join(DEMOS)}, got {cfg.demo!r}")
    prompt = DEMOS[cfg.demo].prompt if cfg.prompt is None else cfg.prompt
    if not prompt.strip():
        raise InputError(f'expected a question: make demo PROMPT="{DEMOS[cfg.demo].prompt}"')
    out = Path(cfg.output).resolve()
    out.mkdir(parents=True, exist_ok=True)
    seconds = run_stages(demo_stages(out, cfg.demo), ROOT, out / "seconds.json")
    write_json(out / "report.json", {**read_json(out / "report.json"), "seconds": seconds})
    answer_prompt(cfg, prompt, out)
    print((out / "report.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    training.run(main, Config, __doc__)
