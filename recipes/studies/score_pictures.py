r"""How often does CLIP find the right caption of what generated sine networks draw? One seed, and a sheet of pictures.

    python recipes/studies/score_pictures.py runs=runs/sines seed=0 output=runs/sines/seed0/scores.json

Reads what `draw_pictures.py` has trained. The guidance scale is chosen on captions of the validation. A minute on a CPU core.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from weightgen import FunctionalNetwork, WeightPipeline, training
from weightgen.data.scenes.render import render
from weightgen.data.scenes.single import single_objects
from weightgen.data.zoo import Zoo
from weightgen.evaluation import task_streams
from weightgen.evaluation.baselines import neighbours_average
from weightgen.networks import SineNetwork
from weightgen.reports.choice import best_setting
from weightgen.reports.drawings import drawing_sheet, drawn, ranked_first
from weightgen.reports.loras import explained
from weightgen.storage.files import write_json

ALL = "rendered"


@dataclass
class Config:
    runs: str = "runs/sines"
    output: str = training.MISSING  # JSON file
    sheet: str | None = None  # PNG file
    zoos: list[str] = field(default_factory=lambda: ["common", "own"])
    scales: list[float] = field(default_factory=lambda: [1.0, 1.5, 2.0, 3.0])
    shown: int = 8  # captions of the sheet
    seed: int = 0


def of_zoo(cfg: Config, name: str) -> dict[str, Any]:
    """Weights (T, P) for the captions of the test by row, and what belongs to them."""
    zoo = Zoo.load(f"{cfg.runs}/zoo_{name}")
    pipe = WeightPipeline.from_pretrained(f"{cfg.runs}/seed{cfg.seed}/pipeline_{name}")
    tasks, network = zoo.tasks(), FunctionalNetwork(SineNetwork())
    splits = ("train", "validation", "test")
    numbers = {part: [n for n, task in enumerate(tasks) if task["split"] == part] for part in splits}
    texts = {part: [tasks[n]["text"] for n in rows] for part, rows in numbers.items()}
    embeds = {part: pipe.encoder.encode_questions(own).clone() for part, own in texts.items()}
    known = zoo.rows(numbers["train"])[:]

    def sampled(split: str, scale: float) -> Tensor:
        streams = task_streams(len(texts[split]), cfg.seed)
        return pipe.sample(embeds[split], guidance_scale=scale, generator=streams)[0][:, 0]

    def score(scale: float) -> float:
        pictures = drawn(network, zoo.space, sampled("validation", scale))
        return ranked_first(pipe.encoder, pictures, texts["validation"])

    scale, tried = best_setting(score, cfg.scales, "scale")
    near, fifth = (neighbours_average(known, embeds["train"], embeds["test"], k) for k in (1, 5))
    fitted = zoo.rows(numbers["test"])[:]
    rows = {"fitted": fitted, "sampled": sampled("test", scale), "nearest": near, "5 nearest": fifth}
    rows["mean of all"] = known.mean(dim=0).expand_as(near)
    pictures = {row: drawn(network, zoo.space, weights) for row, weights in rows.items()}
    found = {"texts": texts["test"], "encoder": pipe.encoder, "pictures": pictures}
    return {**found, "scale": scale, "tried": tried, "variance": explained(known, (8, 32, 64))}


def main(cfg: Config) -> None:
    scenes = dict(single_objects())
    zoos = {name: of_zoo(cfg, name) for name in cfg.zoos}
    texts, clip = zoos[cfg.zoos[0]]["texts"], zoos[cfg.zoos[0]]["encoder"]
    every = {ALL: [render(scenes[text]) for text in texts]}
    for name, zoo in zoos.items():
        every |= {f"{row}, {name} start": images for row, images in zoo["pictures"].items()}
    rows = {row: ranked_first(clip, images, texts) for row, images in every.items()}
    facts = {name: {key: zoo[key] for key in ("scale", "tried", "variance")} for name, zoo in zoos.items()}
    if cfg.sheet:
        shown = [row for row in every if not row.startswith(("mean", "5 "))]
        lines = [(texts[n], [every[row][n] for row in shown]) for n in range(min(cfg.shown, len(texts)))]
        drawing_sheet(cfg.sheet, [row.replace(", ", "\n") for row in shown], lines)
    Path(cfg.output).parent.mkdir(parents=True, exist_ok=True)
    write_json(cfg.output, {"rows": rows, "captions": len(texts), "zoos": facts})


if __name__ == "__main__":
    training.run(main, Config, __doc__)
