r"""Make a pipeline of a hypernetwork that reads questions, such as that of Cond. Multitask: one call as for HyperLDM, without diffusion.

    python recipes/make_pipeline.py dataset=runs/demo-scenes/scenes/dataset hypernet=runs/demo-scenes/cond_multitask \
        output=runs/demo-scenes/point_pipeline

The latent of a question is its embedding (`PointPrior`), so all samples of a question are equal. No training; a second.
Nava, Kobayashi et al., 2023: section 5.2 (Cond. Multitask).
"""

from dataclasses import dataclass

from weightgen import InputError, WeightPipeline, training
from weightgen.data import load_tasks
from weightgen.pipelines.familiarity import Familiarity
from weightgen.priors import PointPrior
from weightgen.storage.files import read_json


@dataclass
class Config:
    dataset: str = training.MISSING  # Meta-VQA folder that the hypernetwork was trained on
    hypernet: str = training.MISSING  # output of train_hypernet, with a hypernetwork on the question
    output: str = training.MISSING  # folder to make
    features: str | None = None  # name of the features, where the data set has several
    trust_remote_code: bool = False  # whether a class that is not weightgen's may be imported and run


def main(cfg: Config) -> None:
    (train,) = load_tasks(cfg.dataset, "train", features=cfg.features, questions=True)
    network, hypernet = training.load_run(cfg.hypernet, "cpu", cfg.trust_remote_code)
    size, condition = train.embeds.shape[1], getattr(hypernet, "condition", None)
    if condition is None or getattr(hypernet, "start", None) is not None or condition.mean.shape != (size,):
        raise InputError(
            f"the hypernetwork of {cfg.hypernet} does not read questions of {size} numbers: "
            "train one with recipes/configs/train_hypernet/scenes_conditional.yaml"
        )
    encoder = train.store.load_encoder("cpu", cfg.trust_remote_code)
    known = Familiarity.of(train.embeds, train.meanings)
    prior = PointPrior(size).fit(train.embeds)
    pipe = WeightPipeline(encoder, prior, hypernet, network, template=train.template, familiarity=known)
    pipe.save_pretrained(cfg.output, training=read_json(f"{cfg.hypernet}/training.json"))


if __name__ == "__main__":
    training.run(main, Config, __doc__)
