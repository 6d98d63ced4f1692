"""A question and examples together: as good as the better of the two, and the question alone where examples lack."""

import pytest
import torch

from tests.tiny import tiny_pipeline
from weightgen import InputError
from weightgen.evaluation import zero_shot
from weightgen.evaluation.mixed import mixed_scores
from weightgen.pipelines.mixed_classifier import MixedClassifier
from weightgen.pipelines.mixture import Mixture
from weightgen.tasks import Examples, TaskBatch, collate

E, C, N = 24, 3, 12


class Tasks:
    """Four tasks whose answers lie around random centres; no network of random weights knows them."""

    def __init__(self, labelled=C):
        draw = torch.Generator().manual_seed(0)
        self.tasks, self.sizes, self.embeds = [], [2 * N] * 4, torch.randn(4, E, generator=draw)
        for row in range(4):
            centres = torch.randn(C, E, generator=draw)
            labels = torch.arange(N) % C
            parts = [centres[labels] + 0.3 * torch.randn(N, E, generator=draw) for _ in range(2)]
            shown = labels % labelled
            context = {
                "answers": torch.randn(C, E, generator=draw),
                "answer_mask": torch.ones(C, dtype=torch.bool),
            }
            support, query = Examples(parts[0], shown), Examples(parts[1], labels)
            self.tasks.append(TaskBatch(support, query, self.embeds[row], context))

    def __len__(self):
        return len(self.tasks)

    def batch(self, rows):
        return collate([self.tasks[row] for row in rows])


@pytest.fixture(scope="module")
def pipe(tmp_path_factory):
    return tiny_pipeline(tmp_path_factory.mktemp("pipe"))


def test_examples_decide_where_the_question_is_unfamiliar(pipe, monkeypatch):
    monkeypatch.setattr(pipe, "familiarity", lambda embeds: torch.zeros(len(embeds)))
    tasks, how = Tasks(), {"guidance_scale": 1.0, "num_inference_steps": 3}
    alone = zero_shot(pipe, tasks, **how).macro
    mixed = [mixed_scores(pipe, tasks, shots, num_samples=2, **how).macro for shots in (1, None)]
    assert mixed[1] > 0.95 and mixed[1] >= mixed[0] > alone


def test_without_examples_of_every_answer_it_is_the_question_alone(pipe):
    tasks, how = Tasks(labelled=2), {"guidance_scale": 1.0, "num_inference_steps": 3}
    assert mixed_scores(pipe, tasks, **how).accuracy.equal(zero_shot(pipe, tasks, **how).accuracy)


def test_a_mixed_classifier_of_images(pipe):
    pixels = torch.randint(256, (6, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    from PIL import Image

    images = [Image.fromarray(picture.byte().permute(1, 2, 0).numpy()) for picture in pixels]
    out = pipe("what color is the star?", ["red", "green"], num_samples=2, num_inference_steps=3)
    both = out.with_examples(images[:4], ["red", "green", 0, 1])
    assert isinstance(both, MixedClassifier) and both.familiarity == 1.0
    shares = both.probabilities(images)
    assert shares.shape == (6, 2) and shares.sum(dim=1).allclose(torch.ones(6))
    unknown = MixedClassifier(both.classifiers, (images[:2], [0, 1]), 0.0, Mixture(question_spread=1e-6))
    assert unknown.predict(images[:2]) == ["red", "green"]  # the examples alone
    assert unknown.predict(images[0]) == "red"
    with pytest.raises(InputError, match="'green' has no example"):
        out.with_examples(images[:1], ["red"])
