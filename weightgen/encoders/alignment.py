"""A linear map of texts and images into one space, fitted in closed form: a CLIP of the towers one has.

    image: (x - mean) V        texts: (t - mean) W        W = argmin ‖(T - mean) W - Y‖² + λ n ‖W‖²

V are the first E principal directions of standardised image features, and Y is the mean image of a text's class
in that space. λ is chosen on classes that are held out from the fit.

Notation: N images, M texts, C classes, F and G features of the two towers, E embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from weightgen.errors import InputError
from weightgen.storage.files import StrPath, read_metadata, read_tensors, write_tensors
from weightgen.storage.hub import check_finite

PENALTIES = tuple(10.0**power for power in range(-2, 4))


@dataclass(frozen=True)
class Alignment:
    """Two affine maps into one space.

    Args:
        image_mean: with shape (F,).
        image_map: with shape (F, E).
        text_mean: with shape (G,).
        text_map: with shape (G, E).
    """

    image_mean: Tensor
    image_map: Tensor
    text_mean: Tensor
    text_map: Tensor

    def to(self, device: torch.device | str) -> Alignment:
        """The same on a device, and in the order in memory that a saved one has, so that no bit differs."""
        return Alignment(*(getattr(self, each.name).to(device).contiguous() for each in fields(self)))

    def images(self, features: Tensor) -> Tensor:
        """Image features (N, F) → (N, E)."""
        return (features - self.image_mean) @ self.image_map

    def texts(self, features: Tensor) -> Tensor:
        """Text features (M, G) → (M, E)."""
        return (features - self.text_mean) @ self.text_map

    def save(self, path: StrPath, image_tower: str, text_tower: str) -> None:
        """Write a safetensors file that names the digests of the towers it is for."""
        tensors = {each.name: getattr(self, each.name) for each in fields(self)}
        write_tensors(path, tensors, {"image_tower": image_tower, "text_tower": text_tower})

    @classmethod
    def load(cls, path: StrPath, image_tower: str, text_tower: str) -> Alignment:
        """Read what `save` wrote, for the towers with these digests.

        Raises:
            InputError: no such file, or an alignment of other towers.
        """
        tensors, metadata = read_tensors(path), read_metadata(path)
        if missing := {each.name for each in fields(cls)} - tensors.keys():
            raise InputError(f"{path} is no alignment of two towers: {min(missing)} is missing")
        for name, digest in (("image_tower", image_tower), ("text_tower", text_tower)):
            found = metadata.get(name, "no digest")
            if found != digest:
                raise InputError(
                    f"{path} is an alignment of another {name.replace('_', ' ')} ({found[:12]}, this one is "
                    f"{digest[:12]}): fit one with recipes/fit_alignment.py"
                )
        parts = {each.name: tensors[each.name].float() for each in fields(cls)}
        check_finite(parts, str(path))
        for side in ("image", "text"):
            mean, linear = parts[f"{side}_mean"], parts[f"{side}_map"]
            if mean.ndim != 1 or linear.ndim != 2 or len(mean) != len(linear):
                raise InputError(
                    f"{path} is no alignment: its {side} mean and map have shapes {tuple(mean.shape)}, {tuple(linear.shape)}"
                )
        if parts["image_map"].shape[1] != parts["text_map"].shape[1]:
            raise InputError(
                f"{path} is no alignment: it maps images and texts into spaces of different sizes"
            )
        return cls(**parts)


def fit_alignment(
    images: Tensor,
    image_classes: Tensor,
    texts: Tensor,
    text_classes: Tensor,
    *,
    dim: int = 192,
    folds: int = 5,
    penalties: Sequence[float] = PENALTIES,
) -> tuple[Alignment, dict[str, Any]]:
    """Fit an alignment, with λ chosen by retrieval on classes held out in turn.

    Args:
        images: features (N, F).
        image_classes: numbers of classes (N,).
        texts: features (M, G).
        text_classes: numbers of classes (M,).
        dim: E.
        folds: groups of classes that are held out in turn.
        penalties: values of λ to choose among.

    Returns:
        The alignment, and the choice: `penalty`, and `validation`, the retrieval at each λ.

    Raises:
        InputError: classes that have texts but no images or the reverse, or too few of either.
    """
    classes = image_classes.unique()
    if not torch.equal(classes, text_classes.unique()):
        raise InputError("every class needs images and texts: some classes have only one of the two")
    if len(classes) < 2 * folds or not 1 <= dim <= min(images.shape):
        raise InputError(
            f"expected at least {2 * folds} classes and a dimension from 1 to {min(images.shape)}, got "
            f"{len(classes)} classes and dim={dim}"
        )
    found: dict[float, list[dict[str, float]]] = {penalty: [] for penalty in penalties}
    for fold in range(folds):
        held = classes[fold::folds]
        out_images, out_texts = torch.isin(image_classes, held), torch.isin(text_classes, held)
        parts = (images[~out_images], image_classes[~out_images], texts[~out_texts], text_classes[~out_texts])
        for penalty, fitted in zip(penalties, _solved(*parts, dim, penalties), strict=True):
            rest = (images[out_images], image_classes[out_images], texts[out_texts], text_classes[out_texts])
            found[penalty].append(retrieval(fitted, *rest))
    mean = {p: {k: sum(s[k] for s in scores) / folds for k in scores[0]} for p, scores in found.items()}
    best = max(penalties, key=lambda penalty: mean[penalty]["top1"])
    (alignment,) = _solved(images, image_classes, texts, text_classes, dim, [best])
    return alignment, {"penalty": best, "validation": {str(p): scores for p, scores in mean.items()}}


def retrieval(
    alignment: Alignment, images: Tensor, image_classes: Tensor, texts: Tensor, text_classes: Tensor
) -> dict[str, float]:
    """How often the class of an image is the nearest, or among the five nearest, by the mean of its texts.

    Args:
        alignment: what is scored.
        images: features (N, F).
        image_classes: numbers of classes (N,).
        texts: features (M, G).
        text_classes: numbers of classes (M,).

    Returns:
        `top1`, `top5`, shares of the N images, and `classes`, the number to choose from.
    """
    classes = text_classes.unique()
    normalized = torch.nn.functional.normalize
    words = normalized(alignment.texts(texts), dim=-1)
    anchors = torch.stack([words[text_classes == each].mean(dim=0) for each in classes])
    cosines = normalized(alignment.images(images), dim=-1) @ normalized(anchors, dim=-1).T
    nearest = classes[cosines.topk(min(5, len(classes)), dim=-1).indices]
    right = nearest == image_classes[:, None]
    return {
        "top1": right[:, 0].double().mean().item(),
        "top5": right.any(dim=1).double().mean().item(),
        "classes": len(classes),
    }


def _solved(
    images: Tensor,
    image_classes: Tensor,
    texts: Tensor,
    text_classes: Tensor,
    dim: int,
    penalties: Sequence[float],
) -> list[Alignment]:
    """One alignment for each λ, computed in double precision."""
    images, texts = images.double(), texts.double()
    image_mean, image_std = images.mean(dim=0), images.std(dim=0).clamp(min=1e-6)
    standard = (images - image_mean) / image_std
    # eigh sorts upwards: the last columns are the principal directions.
    directions = torch.linalg.eigh(standard.T @ standard / len(standard)).eigenvectors[:, -dim:].flip(1)
    image_map = directions / image_std[:, None]
    placed = standard @ directions
    targets = torch.stack([placed[image_classes == each].mean(dim=0) for each in text_classes])
    text_mean, text_std = texts.mean(dim=0), texts.std(dim=0).clamp(min=1e-6)
    standard = (texts - text_mean) / text_std
    gram, right = standard.T @ standard / len(standard), standard.T @ targets / len(standard)
    found = []
    for penalty in penalties:
        ridge = gram + penalty * torch.eye(len(gram), dtype=gram.dtype)
        text_map = torch.linalg.solve(ridge, right) / text_std[:, None]
        found.append(Alignment(*(x.float() for x in (image_mean, image_map, text_mean, text_map))))
    return found
