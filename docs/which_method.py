"""Write docs/which_method.md: which method to use when, with its numbers from results/*.json.

python docs/which_method.py
"""

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "which_method.md"
PHOTOS = "results/photos/table.json"
SPLITS = {
    "random_questions": "known question in new words",
    "novel_compositions": "known attribute, of another group of things",
    "unseen_classes": "known question, of things never seen",
    "novel_attributes": "new attribute",
}
QUESTION, MIXED, ALONE = (
    "hyperldm, 1.0",
    "few_shot, question_mixed_with_examples, {}",
    "few_shot, logistic_regression, {}",
)
NEIGHBOURS, PLAIN, ENCODER = "neighbours_average", "cond_multitask", "encoder_with_question"
ROWS = {
    "no": {
        "the encoder alone, question in the statement": ENCODER,
        "average of the nearest known questions": NEIGHBOURS,
        "a plain hypernetwork (Cond. Multitask)": PLAIN,
        "HyperLDM": QUESTION,
    },
    **{
        shots: {
            "logistic regression on the examples": ALONE.format(shots),
            "HyperLDM, question only": QUESTION,
            "question and examples": MIXED.format(shots),
        }
        for shots in ("1", "5", "all")
    },
}
TITLES = {
    "no": "no example",
    "1": "1 example of each answer",
    "5": "5 examples of each answer",
    "all": "all examples",
}

TEXT = """# Which method when

This page is written by `python docs/which_method.py`, from the results of the shipped kind of model on photographs
([explanation](results_photos.md)). Accuracy in %, mean over {seeds} training seeds. The best number of each column of a block is bold.

{table}

## What follows from the table

| your case | use | why |
|---|---|---|
| the question is like the known ones, and there is no example | `pipe(question, answers)` | {lead} points above a plain hypernetwork on questions in new words, {unseen} on unseen things |
| you want one forward pass, no sampling, and simple code | `HNet`, trained as in `train_hypernet/photos_conditional.yaml` | its accuracy is lower by the points above; one network for each question, so no average over samples |
| the question is new, and there is no example | the encoder with the question in the statement | {encoder_new} % against {best_new} % of the best method that reads the question; `out.familiarity` tells which questions these are |
| one to five examples of each answer | `out.with_examples(images, labels)` | {mixed_1} % against {alone_1} % of logistic regression with one example, on questions in new words |
| many examples, things never seen or a new attribute | logistic regression on the encoder's features | mixing in the question adds {many_unseen} and {many_new} points: too little for the trouble |
| many examples, a known question | `out.with_examples(images, labels)` | {many_known} points above logistic regression |
| images of characters, a CNN and not an encoder | `HyperTransformer` | [its own table](hypertransformer.md), beside ProtoNet and MAML on the same CNN |
| rendered scenes; all methods of the first paper side by side | | [Scenes](results_scenes.md) |

## What weightgen is not good at

- A question of a new attribute, without examples: {new_question} % at {new_chance} % chance.
- Many labelled examples: logistic regression needs no training on other tasks, and is within {many_most} points on every split.
"""


def percent(splits: dict[str, Any], split: str, row: str) -> float:
    """The mean of a row in %, rounded as it is printed."""
    return round(100 * splits[split][row]["mean"], 1)


def table(splits: dict[str, Any]) -> str:
    """All rows, in blocks by the number of examples."""
    lines = ["| examples | method | " + " | ".join(SPLITS.values()) + " |", "|---" * (2 + len(SPLITS)) + "|"]
    for shots, rows in ROWS.items():
        best = {split: max(percent(splits, split, row) for row in rows.values()) for split in SPLITS}
        for method, row in rows.items():
            cells = [percent(splits, split, row) for split in SPLITS]
            shown = [f"**{x}**" if x == best[s] else str(x) for s, x in zip(SPLITS, cells, strict=True)]
            lines.append(f"| {TITLES[shots]} | {method} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def page(results: dict[str, Any]) -> str:
    """The text of the page."""
    splits = results["splits"]

    def gain(split: str, row: str, other: str) -> float:
        return round(percent(splits, split, row) - percent(splits, split, other), 1)

    known, unseen, new = "random_questions", "unseen_classes", "novel_attributes"
    many, alone = MIXED.format("all"), ALONE.format("all")
    return TEXT.format(
        seeds=results["training_seeds"],
        table=table(splits),
        lead=gain(known, QUESTION, PLAIN),
        unseen=gain(unseen, QUESTION, PLAIN),
        encoder_new=percent(splits, new, ENCODER),
        best_new=max(percent(splits, new, row) for row in (QUESTION, PLAIN, NEIGHBOURS)),
        mixed_1=percent(splits, known, MIXED.format(1)),
        alone_1=percent(splits, known, ALONE.format(1)),
        many_unseen=gain(unseen, many, alone),
        many_new=gain(new, many, alone),
        many_known=gain(known, many, alone),
        many_most=max(gain(split, many, alone) for split in SPLITS),
        new_question=percent(splits, new, QUESTION),
        new_chance=percent(splits, new, "chance"),
    )


if __name__ == "__main__":
    PAGE.write_text(page(json.loads((ROOT / PHOTOS).read_text())))
    print(PAGE.relative_to(ROOT))
