"""A pipeline behind the interface of scikit-learn: images and labels in, a fitted classifier out.

Notation: N images, C classes.
"""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted
from torch import Generator

from weightgen.errors import InputError, check_sizes
from weightgen.pipelines.arguments import check_numbers
from weightgen.pipelines.examples_classifier import ExamplesClassifier
from weightgen.pipelines.weight_pipeline import WeightPipeline


class SupportClassifier(ClassifierMixin, BaseEstimator):
    """Classify images from a few labelled examples, alone or with a question; no gradient step is taken.

    Without a question it is `ExamplesClassifier`, with one `MixedClassifier`. `score`, `get_params`, `cross_val_score` and
    `GridSearchCV` work as for every estimator of scikit-learn.

    Args:
        pipe: embeds the images and answers the question.
        num_samples: classifiers that are sampled for the question.
        guidance_scale: of the question, see `WeightPipeline.sample`.
        random_state: seed of the sampling.

    Attributes:
        classes_: C classes in order, after `fit`.
        classifier_: what answers, after `fit`.
    """

    def __init__(
        self,
        pipe: WeightPipeline,
        num_samples: int = 8,
        guidance_scale: float = 1.0,
        random_state: int = 0,
    ) -> None:
        self.pipe = pipe
        self.num_samples = num_samples
        self.guidance_scale = guidance_scale
        self.random_state = random_state

    def __sklearn_clone__(self) -> Self:  # the pipeline is shared: scikit-learn would copy it for each fold
        return type(self)(**self.get_params(deep=False))

    def fit(self, images: Any, labels: Any, prompt: str | None = None) -> Self:
        """Learn from examples.

        Args:
            images: N PIL images or paths, or an array (N, H, W, 3) of bytes.
            labels: N texts or numbers, at least two different ones. With a question they are its answers.
            prompt: the question that the labels answer.

        Returns:
            This classifier.

        Raises:
            InputError: another number of labels than of images, fewer than two classes, or an image that cannot be read.
        """
        check_numbers(num_samples=self.num_samples)
        check_sizes(0, 2**63 - 1, random_state=self.random_state)
        pictures, given = as_pictures(images), np.asarray(labels)
        if given.ndim != 1 or len(given) != len(pictures):
            raise InputError(f"expected {len(pictures)} labels in a list, got shape {given.shape}")
        classes, numbers = np.unique(given, return_inverse=True)
        if len(classes) < 2:
            raise InputError(f"a classifier chooses among two classes or more, got {classes.tolist()}")
        answers, support = [str(label) for label in classes], (pictures, numbers.tolist())
        if prompt is None:
            self.classifier_ = ExamplesClassifier(self.pipe.encoder, answers, support)
        else:
            generator = Generator().manual_seed(self.random_state)
            how: dict[str, Any] = {"num_samples": self.num_samples, "guidance_scale": self.guidance_scale}
            out = self.pipe(prompt, answers, generator=generator, **how)
            self.classifier_ = out.with_examples(*support)
        self.classes_: NDArray[Any] = classes
        return self

    def predict_proba(self, images: Any) -> NDArray[np.float32]:
        """Probability of each class, with shape (N, C), in the order of `classes_`.

        Raises:
            NotFittedError: of scikit-learn, before `fit`.
            InputError: an image that cannot be read.
        """
        check_is_fitted(self)
        found: NDArray[np.float32] = self.classifier_.probabilities(as_pictures(images)).cpu().numpy()
        return found

    def predict(self, images: Any) -> NDArray[Any]:
        """The likeliest class of each image, with shape (N,).

        Raises:
            NotFittedError: of scikit-learn, before `fit`.
            InputError: an image that cannot be read.
        """
        best: NDArray[Any] = self.predict_proba(images).argmax(axis=-1)
        return np.asarray(self.classes_[best])


def as_pictures(images: Any) -> list[Any]:
    """Images as a list of PIL images and paths.

    Raises:
        InputError: it is no list, is empty, or is an array of another shape or type.
    """
    if isinstance(images, np.ndarray) and images.dtype != object and images.dtype.kind != "U":
        if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8:
            raise InputError(
                f"an array of images must hold bytes of shape (N, H, W, 3), got {images.dtype} of shape {images.shape}"
            )
        images = [Image.fromarray(image) for image in images]
    if not isinstance(images, Sequence | np.ndarray) or isinstance(images, str | bytes):
        raise InputError(f"expected a list of images or paths, got {images!r:.80}")
    if not len(images):
        raise InputError("expected at least one image, got an empty list")
    return list(images)
