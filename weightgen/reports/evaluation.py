"""The rows of an evaluation by split, and its report: one table and two figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

from weightgen.data.meta_vqa.tasks import MetaVQATasks
from weightgen.data.meta_vqa.templates import make_template
from weightgen.errors import needs
from weightgen.evaluation import chance_scores, encoder_scores, zero_shot
from weightgen.evaluation.baselines import shuffled_questions
from weightgen.reports.figures import draw_bars, draw_curves
from weightgen.reports.tables import flat_rows, markdown_table, percent, title_of, write_report
from weightgen.storage.files import StrPath


def encoder_rows(encoder: Any, tasks: MetaVQATasks) -> dict[str, float]:
    """Accuracy of guessing, of the encoder as it is, and of the encoder where the answers' statements contain the question."""
    asked = tasks.with_templates(make_template, encoder.encode_texts)
    scores = {"chance": chance_scores(tasks), "encoder": encoder_scores(tasks)}
    scores["encoder_with_question"] = encoder_scores(asked)
    return {name: score.macro for name, score in scores.items()}


def sampled_rows(
    pipe: Any, tasks: MetaVQATasks, scales: Sequence[float], seeds: Sequence[int], **sampling: Any
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Accuracy of sampled weights over sampling seeds: its mean, and its standard deviation.

    Args:
        pipe: a `WeightPipeline`.
        tasks: T tasks.
        scales: guidance scales; the largest one is also scored with shuffled questions.
        seeds: of the sampling.
        **sampling: further arguments of `WeightPipeline.sample`.

    Returns:
        Means and deviations, each as {"hyperldm": {scale: number}, "hyperldm_shuffled": number}.
    """

    def over_seeds(scale: float, shuffled: bool = False) -> list[float]:
        def embeds(seed: int) -> Any:
            return shuffled_questions(tasks.embeds, seed) if shuffled else tasks.embeds

        return [
            zero_shot(pipe, tasks, embeds(seed), seed=seed, guidance_scale=scale, **sampling).macro
            for seed in seeds
        ]

    found, mixed = {str(scale): over_seeds(scale) for scale in scales}, over_seeds(max(scales), shuffled=True)

    def rows(of: Callable[[list[float]], float]) -> dict[str, Any]:
        return {
            "hyperldm": {scale: of(each) for scale, each in found.items()},
            "hyperldm_shuffled": of(mixed),
        }

    return rows(fmean), rows(pstdev)


def familiarity_rows(pipe: Any, tasks: Mapping[str, MetaVQATasks]) -> dict[str, dict[str, float]]:
    """How familiar the questions of each split are to a pipeline.

    Args:
        pipe: a `WeightPipeline`.
        tasks: split → tasks, with "validation".

    Returns:
        Split → {"mean", "auroc"}: the mean, and how well familiarity tells the validation questions from those of this split (0.5: not
        at all); nothing for a pipeline that does not know.
    """
    with needs("train"):
        from sklearn.metrics import roc_auc_score

    if pipe.familiarity is None:
        return {}
    found = {split: pipe.familiarity(part.embeds).tolist() for split, part in tasks.items()}
    known = found["validation"]

    def auroc(others: list[float]) -> float:
        return float(roc_auc_score([1] * len(known) + [0] * len(others), known + others))

    return {split: {"mean": fmean(values), "auroc": auroc(values)} for split, values in found.items()}


def evaluation_text(report: Mapping[str, Any]) -> str:
    """Every row of every split as one Markdown table, in percent; sampled rows with their spread over sampling seeds.

    Args:
        report: "splits": split → nested rows of accuracies, the same ones for all splits; "sd": of those rows that have one; "seeds".
    """
    columns = {split: flat_rows(rows) for split, rows in report["splits"].items()}
    spreads = {split: flat_rows(rows) for split, rows in report["sd"].items()}

    def cell(split: str, row: str) -> str:
        value, sd = columns[split][row], spreads.get(split, {}).get(row)
        return percent(value if sd is None else {"mean": value, "std": sd})

    rows = [[row, *(cell(split, row) for split in columns)] for row in next(iter(columns.values()))]
    known = [
        [title_of(split), *(f"{row[key]:.2f}" for key in ("mean", "auroc"))]
        for split, row in report.get("familiarity", {}).items()
    ]
    head = f"Accuracy in %; ± is the standard deviation over {len(report['seeds'])} sampling seeds.\n\n"
    table = head + markdown_table(["", *map(title_of, columns)], rows)
    if not known:
        return table
    tail = "\n\nFamiliarity of the questions, and AUROC by which it tells those of validation from them.\n\n"
    return table + tail + markdown_table(["", "familiarity", "AUROC"], known)


def write_evaluation(output: StrPath, report: Mapping[str, Any]) -> None:
    """Write the report to `output`, a JSON file, and the table and the figures beside it."""
    path = Path(output)
    path.parent.mkdir(parents=True, exist_ok=True)
    draw_bars(
        {split: flat_rows(rows) for split, rows in report["splits"].items()}, path.with_name("accuracies.png")
    )
    curve = {
        scale: {"mean": value, "std": None} for scale, value in report["validation_guidance_curve"].items()
    }
    draw_curves({"HyperLDM": curve}, {}, path.with_name("guidance.png"), "guidance scale", "Validation tasks")
    write_report(path.with_suffix(""), report, evaluation_text(report))
