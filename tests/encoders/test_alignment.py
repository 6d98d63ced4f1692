import pytest
import torch
from torch.testing import assert_close

from weightgen import InputError
from weightgen.encoders.alignment import Alignment, fit_alignment, retrieval

CLASSES, PER_CLASS, F, G = 30, 12, 20, 15


def pairs(noise=0.1):
    """Images and texts that are noisy linear views of the same class vectors."""
    hidden = torch.randn(CLASSES, 8)
    images, texts = torch.randn(8, F), torch.randn(8, G)
    classes = torch.arange(CLASSES)
    image_classes, text_classes = classes.repeat_interleave(PER_CLASS), classes.repeat_interleave(2)
    image = hidden[image_classes] @ images + 3 + noise * torch.randn(CLASSES * PER_CLASS, F)
    text = hidden[text_classes] @ texts - 1 + noise * torch.randn(CLASSES * 2, G)
    return image, image_classes, text, text_classes


def test_classes_that_were_not_fitted_are_found():
    image, image_classes, text, text_classes = pairs()
    seen_images, seen_texts = image_classes < 20, text_classes < 20
    alignment, choice = fit_alignment(
        image[seen_images], image_classes[seen_images], text[seen_texts], text_classes[seen_texts], dim=8
    )
    rest = (image[~seen_images], image_classes[~seen_images], text[~seen_texts], text_classes[~seen_texts])
    found = retrieval(alignment, *rest)
    assert found["top1"] > 0.9 and found["top5"] == 1 and found["classes"] == 10
    assert choice["validation"][str(choice["penalty"])]["top1"] > 0.9
    # Texts that belong to other classes are of no use.
    shuffled = retrieval(alignment, *rest[:2], text[~seen_texts].roll(6, dims=0), text_classes[~seen_texts])
    assert shuffled["top1"] < 0.4


def test_the_map_of_texts_is_the_ridge_solution():
    image, image_classes, text, text_classes = pairs()
    alignment, _ = fit_alignment(image, image_classes, text, text_classes, dim=5, penalties=[0.7])
    placed = alignment.images(image)
    targets = torch.stack([placed[image_classes == each].mean(dim=0) for each in text_classes]).double()
    mean, std = text.double().mean(dim=0), text.double().std(dim=0)
    weights = (alignment.text_map.double() * std[:, None]).requires_grad_()
    loss = ((text.double() - mean) / std @ weights - targets).square().sum() / len(text)
    (gradient,) = torch.autograd.grad(loss + 0.7 * weights.square().sum(), weights)
    assert gradient.abs().max() < 1e-3
    assert_close(alignment.text_mean, text.mean(dim=0))
    # The image map is orthonormal on standardised features.
    directions = alignment.image_map * image.std(dim=0)[:, None]
    assert_close(directions.T @ directions, torch.eye(5), atol=1e-4, rtol=1e-4)


def test_what_cannot_be_fitted():
    image, image_classes, text, text_classes = pairs()
    with pytest.raises(InputError, match="every class needs images and texts"):
        fit_alignment(image, image_classes, text[2:], text_classes[2:], dim=5)
    with pytest.raises(InputError, match="dimension from 1 to 20, got 30 classes and dim=21"):
        fit_alignment(image, image_classes, text, text_classes, dim=21)
    few, words = image_classes < 9, text_classes < 9
    with pytest.raises(InputError, match="at least 10 classes"):
        fit_alignment(image[few], image_classes[few], text[words], text_classes[words], dim=5)


def test_an_alignment_is_saved_with_the_towers_it_is_for(tmp_path):
    alignment = Alignment(torch.randn(4), torch.randn(4, 3), torch.randn(2), torch.randn(2, 3))
    alignment.save(tmp_path / "a.safetensors", "image digest", "text digest")
    found = Alignment.load(tmp_path / "a.safetensors", "image digest", "text digest")
    assert torch.equal(found.texts(torch.ones(1, 2)), alignment.texts(torch.ones(1, 2)))
    with pytest.raises(InputError, match="alignment of another text tower .text digest, this one is other"):
        Alignment.load(tmp_path / "a.safetensors", "image digest", "other")
