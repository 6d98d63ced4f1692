"""The chain of stages behind the paper's tables: every method, shared between them what can be shared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from weightgen.reports.stages import Stage, add_recipe, listed


class Setting(NamedTuple):
    """Where the methods of a setting differ from those of others.

    Attributes:
        shared_start: whether the other methods begin at the weights of Uncond. Multitask; in the paper each begins at its own. Scenes is
            small, and training short.
        adapted_from: where adapted weights start, and adapted latents of an HNet. From the question's weights they stay so similar for
            similar questions that a generator can learn them; "{}" stands for the largest share of the questions.
        diffusion: HVAE + HyperLDM as we have it, as the paper has it, and HNet + HyperLDM.
    """

    shared_start: bool
    adapted_from: tuple[str, str]
    diffusion: tuple[str, str, str]


CONDITIONAL = {
    "cond_multitask": "conditional",
    "film": "film",
    "cond_hnet_maml": "cond_hnet_maml",
}  # → config
SETTINGS = {
    "scenes": Setting(True, ("maml", "hnet_maml"), ("scenes", "scenes_paper", "scenes_hnet")),
    "scenes_tokens": Setting(
        True,
        ("cond_multitask_{}", "cond_multitask_{}"),
        ("scenes_tokens", "scenes_tokens_paper", "scenes_tokens_hnet"),
    ),
    "photos": Setting(True, ("multitask", "cond_multitask_{}"), ("photos", "photos_paper", "photos_hnet")),
    "paper": Setting(False, ("maml", "hnet_maml"), ("paper_weightgen", "paper", "paper")),
}


def paper_stages(
    runs: Path, source: Mapping[str, object], setting: str, seed: int, shares: Sequence[int]
) -> dict[str, Stage]:
    """All that one seed needs, shared between methods: one start of each kind, one set of adapted weights and of latents.

    Args:
        runs: folder of what is trained.
        source: the settings "dataset" and, where it has several, "features".
        setting: a key of SETTINGS, and of the configuration files.
        seed: of every training.
        shares: per cent of the questions that conditional methods know.
    """
    found: dict[str, Stage] = {}

    def add(name: str, recipe: str, variant: str, of: dict[str, str], **settings: object) -> None:
        paths = (runs / name, f"recipes/{recipe}.py", f"{recipe}/{variant}")
        add_recipe(found, name, *paths, of, {**source, "seed": seed, **settings})

    how, most = SETTINGS[setting], max(shares)
    add("multitask", "train_hypernet", setting, {})
    start = {"start": "multitask"} if how.shared_start else {}
    for name in ("maml", "fomaml", "hnet_maml"):
        add(name, "train_hypernet", f"{setting}_{name}", start)
    for share in shares:
        for name, variant in CONDITIONAL.items():
            part = {"question_fraction": share / 100}
            add(f"{name}_{share}", "train_hypernet", f"{setting}_{variant}", start, **part)
    weights, latents = (name.format(most) for name in how.adapted_from)
    add("adapted", "adapt_tasks", setting, {"start": weights})
    add("adapted_hnet", "adapt_tasks", f"{setting}_hnet", {"start": latents})
    add("hvae", "train_hvae", setting, {"adapted": "adapted"})
    of_hvae, of_hnet = {"adapted": "adapted", "hvae": "hvae"}, {"adapted": "adapted_hnet"}
    ours, theirs, of_latents = how.diffusion
    for share in shares:
        part = {"question_fraction": share / 100}
        add(f"hyperclip_{share}", "train_hyperclip", setting, of_hvae, **part)
        add(f"hyperclip_hnet_{share}", "train_hyperclip", setting, of_hnet, **part)
        add(f"hyperldm_{share}", "train_hyperldm", ours, of_hvae, **part)
        add(f"hyperldm_paper_{share}", "train_hyperldm", theirs, of_hvae, **part)
        add(f"hyperldm_hnet_{share}", "train_hyperldm", of_latents, of_hnet, **part)
    words = {**source, "runs": runs, "seed": seed, "shares": listed(shares), "latents_from": latents}
    script, config = "recipes/studies/score_methods.py", f"score_methods/{setting}"
    paths = (runs / "scores.json", script, config)
    add_recipe(found, "scores", *paths, settings=words, needs=tuple(found), cheap=True)
    return found
