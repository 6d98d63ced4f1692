"""The whole path with small settings: from a data set to a classifier sampled for your question.

    make demo PROMPT="Does it have wheels?" ANSWERS=yes,no IMAGES=my_photos
    python recipes/demo.py demo=photos prompt="Does it have wheels?" answers=yes,no images=my_photos

The demo `photos` answers about photographs: those in `images`, or six that scikit-image carries. Without `answers` it uses those of the
nearest known question. The demo `scenes` draws its pictures itself, and knows the truth about them.

Stages whose output is there already are reused. A stage that is interrupted leaves nothing behind and is done again the next time.
Makes report.json, report.md and two figures, contact_sheet.png, weights.safetensors, and the pipeline.
On a CPU core, `photos` takes 5 to 6 minutes and `scenes` about 12, most of it for networks that read image tokens.
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from weightgen import WeightPipeline, training
from weightgen.data.features.images import ImageStore
from weightgen.data.features.store import find_features
from weightgen.data.meta_vqa.disk import load_meta_vqa
from weightgen.data.photos.shipped import DATASET
from weightgen.errors import InputError
from weightgen.pipelines.known_questions import nearest_task
from weightgen.reports.contact_sheet import Answered, contact_sheet
from weightgen.reports.demos import DEMOS, demo_stages
from weightgen.reports.pictures import Picture, folder_pictures, photographs, task_pictures
from weightgen.reports.prompts import given_answers
from weightgen.reports.stages import claim_folders, run_stages
from weightgen.storage.files import read_json, write_json, written_beside

ROOT = Path(__file__).resolve().parent.parent


@dataclass
class Config:
    demo: str = "photos"
    prompt: str | None = None  # a question; by default the demo's own
    answers: str | None = (
        None  # what to choose from, with commas between; by default those of the nearest known question
    )
    images: str | None = None  # a folder of photos to ask about
    output: str = "runs/demo"
    num_samples: int = 8
    guidance_scale: float = 1.0
    seed: int = 0  # of sampling
    training_seed: int = 0


def checked(cfg: Config) -> tuple[str, list[str] | None, list[Picture]]:
    """The prompt, its answers if they were given, and the pictures if no task has to give them; before any long work."""
    if cfg.demo not in DEMOS:
        raise InputError(f"expected demo to be one of {', '.join(DEMOS)}, got {cfg.demo!r}")
    prompt = DEMOS[cfg.demo].prompt if cfg.prompt is None else cfg.prompt
    if not prompt.strip():
        raise InputError(f'expected a question: make demo PROMPT="{DEMOS[cfg.demo].prompt}"')
    data = Path(cfg.output, cfg.demo, "dataset")
    data = DATASET if cfg.demo == "photos" and not data.is_dir() else data
    known = load_meta_vqa(data) if data.is_dir() else {}
    answers = given_answers(cfg.answers, prompt, known)
    if cfg.images is not None:
        return prompt, answers, folder_pictures(cfg.images)
    return prompt, answers, photographs() if cfg.demo == "photos" else []


def answer_prompt(
    cfg: Config, prompt: str, answers: list[str] | None, pictures: list[Picture], out: Path
) -> None:
    """Sample classifiers for the prompt, and draw what they say about the pictures on average."""
    folder = out / DEMOS[cfg.demo].answers
    pipe = WeightPipeline.from_pretrained(folder)
    data = out / cfg.demo / "dataset"
    task = nearest_task(prompt, load_meta_vqa(data), find_features(data), pipe.encoder, pipe.familiarity)
    pictures = pictures or task_pictures(task, ImageStore(out / cfg.demo / "images"))
    choices = answers or task["answers"]
    generated = pipe(
        prompt, choices, num_samples=cfg.num_samples, guidance_scale=cfg.guidance_scale, template=task["template"],
        generator=torch.Generator().manual_seed(cfg.seed),
    )  # fmt: skip
    generated.save(out / "weights.safetensors")
    with torch.no_grad():
        features = pipe.encoder.encode_images([picture.image for picture in pictures])
        logits = [generated.classifier(0, k)(features) for k in range(cfg.num_samples)]
    best = torch.stack(logits).softmax(dim=-1).mean(dim=0).max(dim=-1)
    told = [choices[i] for i in best.indices.tolist()]
    shown = zip(pictures, told, best.values.tolist(), strict=True)
    sheet = [Answered(picture.image, answer, share, picture.truth) for picture, answer, share in shown]
    trained = len(load_meta_vqa(data)["train"])
    notes = [f"no gradient step · {cfg.num_samples} samples averaged · trained on {trained:,} questions"]
    if answers is None and task["question"] != prompt:
        notes.append(f"answers of the nearest known question: {task['question']}")
    warning = generated.warning()
    with written_beside(out / "contact_sheet.png", overwrite=True) as partial:
        contact_sheet(sheet, prompt, notes, warning).save(partial, format="PNG")
    print("", prompt, *notes, warning or "", sep="\n")
    for picture, each in zip(pictures, sheet, strict=True):
        print(
            f"  {picture.name:24} {each.answer}  {each.share:.0%}"
            + (f"  (is {each.truth})" if each.truth else "")
        )
    print(f"{out / 'contact_sheet.png'}\n\nTo go on in Python:\n\n    from weightgen import WeightPipeline")
    print(f"    pipe = WeightPipeline.from_pretrained({str(folder)!r})")
    print(f"    out = pipe({prompt!r}, answers={choices}, num_samples={cfg.num_samples})")
    print("    out.classifier(0, 0).predict([image])  # PIL images in, answers out\n")


def main(cfg: Config) -> None:
    prompt, answers, pictures = checked(cfg)
    out = Path(cfg.output).resolve()
    claim_folders([out], {"demo": cfg.demo, "training_seed": cfg.training_seed})
    seconds = run_stages(demo_stages(out, cfg.demo, cfg.training_seed), ROOT, out / "seconds.json")
    write_json(out / "report.json", {**read_json(out / "report.json"), "seconds": seconds})
    answer_prompt(cfg, prompt, answers, pictures, out)
    print((out / "report.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    training.run(main, Config, __doc__)
