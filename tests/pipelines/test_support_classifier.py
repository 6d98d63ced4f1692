"""The estimator: scikit-learn's conventions, what it computes with and without a question, and what it refuses."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_val_score
from torch.nn.functional import normalize

from tests.tiny import tiny_pipeline
from weightgen import InputError, SupportClassifier
from weightgen.pipelines.mixture import ridge_scores

STAR = "What color is the star?"


@pytest.fixture(scope="module")
def pipe(tmp_path_factory):
    return tiny_pipeline(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def pictures():
    """Four reddish and four bluish pictures."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(60, (8, 32, 32, 3), dtype=torch.uint8, generator=generator).numpy()
    pixels[:4, :, :, 0] += 190
    pixels[4:, :, :, 2] += 190
    return [Image.fromarray(each) for each in pixels]


LABELS = ["red"] * 4 + ["blue"] * 4


@pytest.mark.parametrize("prompt", [None, STAR])
def test_the_conventions_of_scikit_learn(pipe, pictures, prompt):
    estimator = SupportClassifier(pipe, num_samples=2)
    assert estimator.fit(pictures, LABELS, prompt=prompt) is estimator
    assert estimator.classes_.tolist() == ["blue", "red"]
    shares = estimator.predict_proba(pictures)
    assert shares.shape == (8, 2)
    assert_allclose(shares.sum(axis=1), 1, atol=1e-5)
    assert_array_equal(estimator.predict(pictures), estimator.classes_[shares.argmax(axis=1)])
    assert estimator.score(pictures, LABELS) == 1.0
    assert "num_samples=2" in repr(estimator)


def test_without_a_question_it_ranks_as_the_regression_does(pipe, pictures):
    few, numbers = [0, 1, 5, 6, 7], torch.tensor([1, 1, 0, 0, 0])
    estimator = SupportClassifier(pipe).fit([pictures[i] for i in few], numbers.numpy())
    embeds = normalize(pipe.encoder.encode_images(pictures).clone(), dim=-1)
    scores, _ = ridge_scores(embeds[few], numbers, embeds, 1.0)
    logs = np.log(estimator.predict_proba(pictures))
    margin, expected = logs[:, 1] - logs[:, 0], (scores[:, 1] - scores[:, 0]).numpy()
    assert_allclose(margin / expected, (margin / expected)[0], rtol=0.01)
    assert (margin / expected)[0] > 0


def test_with_a_question_it_is_the_mixed_classifier(pipe, pictures):
    estimator = SupportClassifier(pipe, num_samples=3, random_state=5).fit(pictures, LABELS, prompt=STAR)
    out = pipe(
        STAR, ["blue", "red"], num_samples=3, guidance_scale=1.0, generator=torch.Generator().manual_seed(5)
    )
    expected = out.with_examples(pictures, LABELS).probabilities(pictures)
    assert_allclose(estimator.predict_proba(pictures), expected.numpy(), atol=1e-6)
    alone = SupportClassifier(pipe).fit(pictures, LABELS).predict_proba(pictures)
    assert abs(alone - expected.numpy()).max() > 1e-4


def test_numbers_stay_numbers_and_arrays_and_paths_are_images(pipe, pictures, tmp_path):
    for number, picture in enumerate(pictures):
        picture.save(tmp_path / f"{number}.png")
    paths = [tmp_path / f"{number}.png" for number in range(8)]
    labels = np.array([7] * 4 + [3] * 4)
    by_path = SupportClassifier(pipe).fit(paths, labels)
    by_array = SupportClassifier(pipe).fit(np.stack([np.asarray(one) for one in pictures]), labels)
    assert by_path.predict(paths).tolist() == labels.tolist()
    assert_allclose(by_path.predict_proba(paths), by_array.predict_proba(pictures), atol=1e-5)


def test_cross_validation_shares_the_pipeline(pipe, pictures):
    estimator = SupportClassifier(pipe, num_samples=2)
    assert clone(estimator).pipe is pipe and clone(estimator).num_samples == 2
    assert_allclose(cross_val_score(estimator, pictures, LABELS, cv=2), 1.0)


def test_wrong_use(pipe, pictures):
    estimator = SupportClassifier(pipe)
    with pytest.raises(NotFittedError):
        estimator.predict(pictures)
    for images, labels, expected in [
        (pictures, LABELS[:-1], "expected 8 labels"),
        (pictures, ["red"] * 8, "two classes or more"),
        ([], [], "at least one image"),
        ("photo.png", ["red"], "list of images"),
        (np.zeros((8, 32, 32)), LABELS, r"bytes of shape \(N, H, W, 3\)"),
        (["nowhere.png", *pictures[1:]], LABELS, "nowhere.png"),
    ]:
        with pytest.raises(InputError, match=expected):
            estimator.fit(images, labels)
    with pytest.raises(InputError, match="num_samples"):
        SupportClassifier(pipe, num_samples=0).fit(pictures, LABELS)
    with pytest.raises(InputError, match="random_state"):
        SupportClassifier(pipe, random_state=-1).fit(pictures, LABELS)
    with pytest.raises(NotFittedError):
        estimator.predict(pictures)
