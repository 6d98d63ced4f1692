import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from tests.tiny import E, tiny_clip
from weightgen import InputError
from weightgen.encoders.load import load_clip
from weightgen.networks import CLIPAdapter
from weightgen.pipelines.classifier import Classifier

ANSWERS = ["red", "green", "blue"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return load_clip(str(tiny_clip(tmp_path_factory.mktemp("clip") / "clip")))


@pytest.fixture
def classifier(clip):
    return Classifier(
        CLIPAdapter(E, 4, init="authors"), clip, tuple(ANSWERS), clip.encode_texts(ANSWERS).clone()
    )


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (12, 40, 32, 3), dtype=torch.uint8, generator=generator).numpy()
    return [Image.fromarray(each) for each in pixels]


def test_logits_are_those_of_the_network_on_the_answers(classifier, clip):
    features = torch.randn(7, E)
    logits = classifier(features)
    assert logits.shape == (7, 3)
    assert torch.equal(logits, classifier.network(features, clip.encode_texts(ANSWERS)))
    assert classifier.answers == ANSWERS


def test_images_go_through_the_encoder(classifier, clip, images):
    shares = classifier.probabilities(images)
    assert shares.shape == (12, 3) and not shares.requires_grad
    assert_close(shares.sum(dim=1), torch.ones(12))
    assert_close(shares, classifier(clip.encode_images(images)).softmax(dim=1))
    assert_close(classifier.probabilities(images[3:4]), shares[3:4], atol=1e-4, rtol=1e-4)


def test_it_predicts_the_likeliest_answer(classifier, images):
    classifier.answer_embeds.copy_(torch.randn(3, E))
    predicted = classifier.predict(images)
    expected = [ANSWERS[i] for i in classifier.probabilities(images).argmax(dim=1).tolist()]
    assert predicted == expected
    # Answers trade places with their embeddings, and with nothing else.
    classifier.answer_embeds.copy_(classifier.answer_embeds.roll(1, dims=0))
    after = {old: ANSWERS[(i + 1) % 3] for i, old in enumerate(ANSWERS)}
    assert classifier.predict(images) == [after[answer] for answer in predicted]


def test_embeddings_of_answers_are_saved_with_the_network(classifier, clip):
    state = classifier.state_dict()
    assert "answer_embeds" in state and "answer_embeds" not in dict(classifier.named_parameters())
    other = Classifier(CLIPAdapter(E, 4), clip, ANSWERS, torch.zeros(3, E))
    other.load_state_dict(state)
    features = torch.randn(5, E)
    assert torch.equal(other(features), classifier(features))


def test_one_image_or_a_path_is_enough(classifier, images, tmp_path):
    classifier.answer_embeds.copy_(torch.randn(3, E))
    images[4].save(tmp_path / "4.png")
    expected = classifier.predict(images)[4]
    for one in (images[4], tmp_path / "4.png", str(tmp_path / "4.png")):
        assert classifier.predict(one) == expected and classifier.predict([one]) == [expected]
    with pytest.raises(InputError, match="nothing.png is not an image"):
        classifier.predict("nothing.png")
