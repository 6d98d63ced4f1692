"""Model cards: the README.md of a saved folder, as the Hugging Face Hub reads it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from huggingface_hub import EvalResult, ModelCard, ModelCardData

LIBRARY = "weightgen"


class CardFacts(NamedTuple):
    """What is known of a saved model beyond its own files; what is not known is left out of the card.

    Attributes:
        data: the data set that it was trained on.
        metrics: scores by name, such as {"accuracy": 0.83}; they need `data`.
        limits: sentences about what it cannot do.
        seed: of the training.
        license: as the Hub writes it, such as "mit".
    """

    data: str | None = None
    metrics: Mapping[str, float] = {}
    limits: Sequence[str] = ()
    seed: int | None = None
    license: str | None = None


def model_card(
    name: str,
    summary: str,
    usage: str,
    facts: CardFacts | None = None,
    settings: Mapping[str, Any] | None = None,
) -> ModelCard:
    """A card.

    Args:
        name: of the model.
        summary: sentences about it.
        usage: Python that loads it.
        facts: what is known of it.
        settings: of its training, written as they are.
    """
    facts = facts or CardFacts()
    data = ModelCardData(
        library_name=LIBRARY,
        license=facts.license,
        tags=["hypernetwork", "weight-generation"],
        model_name=name,
        eval_results=[
            EvalResult(
                "image-classification",
                facts.data or "not named",
                facts.data or "not named",
                key,
                float(value),
            )
            for key, value in facts.metrics.items()
        ]
        or None,
    )
    parts = [f"# {name}", summary, f"```python\n{usage}\n```"]
    if facts.data:
        parts.append(f"## Data\n\n{facts.data}")
    if facts.metrics:
        rows = "\n".join(f"| {key} | {value:g} |" for key, value in facts.metrics.items())
        parts.append(f"## Metrics\n\n| metric | value |\n|---|---|\n{rows}")
    if facts.limits:
        parts.append("## Limits\n\n" + "\n".join(f"- {sentence}" for sentence in facts.limits))
    if facts.seed is not None:
        parts.append(f"## Seed\n\n{facts.seed}")
    if settings:
        text = json.dumps(dict(settings), indent=2, ensure_ascii=False, default=str)
        parts.append(f"## Training\n\n```json\n{text}\n```")
    body = "\n\n".join(parts)
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n{body}\n")
