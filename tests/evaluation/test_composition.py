"""Two questions in one network."""

from dataclasses import dataclass

import pytest
import torch

from tests.recipes.small import loaded
from tests.tiny import E, tiny_pipeline
from weightgen import InputError
from weightgen.evaluation.composition import PairSampler, SumOfGuidances


@dataclass
class Asked:
    """What is read of tasks."""

    meanings: list
    questions: list
    embeds: torch.Tensor

    def __len__(self):
        return len(self.meanings)

    def subset(self, rows):
        return Asked([self.meanings[i] for i in rows], [self.questions[i] for i in rows], self.embeds[rows])


def asked(*meanings):
    return Asked(list(meanings), list(meanings), torch.randn(len(meanings), E))


@pytest.fixture(scope="module")
def sampler(tmp_path_factory):
    return PairSampler(tiny_pipeline(tmp_path_factory.mktemp("tiny")), num_samples=2)


def test_the_sum_of_guidances_is_its_formula():
    def denoiser(latents, times, embeds):
        return embeds + latents

    latents, a, b = torch.randn(3, 4), torch.randn(3, 4), torch.randn(3, 4)
    found = SumOfGuidances(denoiser, b, 1.5)(latents, torch.zeros(3), a)
    torch.testing.assert_close(found, latents + 1.5 * a + 1.5 * b)


def test_ways_of_composing(sampler):
    pairs = (
        asked("What color is the star?", "What shape is it?"),
        asked("Where is the moon?", "What size is it?"),
    )
    made = {name: way(pairs, 1.0) for name, way in sampler.ways.items()}
    assert all(weights.shape == (2, 2, sampler.pipe.space.size) for weights in made.values())
    (first, latents), (second, others) = sampler.each(pairs, 1.0)
    torch.testing.assert_close(made["mean of weights"], (first + second) / 2)
    torch.testing.assert_close(made["mean of latents"], sampler.pipe.decode((latents + others) / 2))
    swapped = sampler.ways["mean of embeddings"](pairs[::-1], 1.0)
    torch.testing.assert_close(made["mean of embeddings"], swapped)
    same = sampler.ways["mean of weights"]((pairs[0], pairs[0]), 1.0)
    torch.testing.assert_close(same, made["first question alone"])
    distinct = [made[name] for name in made]
    assert all(not torch.equal(a, b) for i, a in enumerate(distinct) for b in distinct[:i])


def test_pairs_ask_for_two_attributes(root):
    paired = loaded(root, "studies/compose_prompts").paired
    tasks = asked(
        "What color is the star?",
        "What size is the star?",
        "What color is the moon?",
        "Where is the red ring?",
    )
    found = paired(tasks, 50, 0)
    one, two = (
        {(a, b) for a, b in zip(*(part.meanings for part in pairs), strict=True)} for pairs in found.values()
    )
    assert one == {("What color is the star?", "What size is the star?")} and len(two) == 4
    assert ("What color is the star?", "What color is the moon?") not in two
    with pytest.raises(InputError, match="no two tasks ask for two attributes of one thing"):
        paired(asked("What color is the star?", "What size is the moon?"), 50, 0)
