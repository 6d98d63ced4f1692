"""What the tables and figures call the methods; the keys are the names of their folders."""

# Zero-shot methods that are trained with a share of the questions.
ZERO_SHOT = {
    "cond_multitask": "Cond. Multitask",
    "film": "Cond. Multitask FiLM",
    "cond_hnet_maml": "Cond. HNet-MAML",
    "hyperclip_hnet": "HNet + HyperCLIP guidance",
    "hyperclip": "HVAE + HyperCLIP guidance",
    "hyperldm_hnet": "HNet + HyperLDM",
    "hyperldm_paper": "HVAE + HyperLDM (paper)",
    "hyperldm": "HVAE + HyperLDM (weightgen)",
}
# What a user can do with the adapted weights of known questions, without any generator.
RETRIEVED = {
    "neighbours_average": "average of the nearest questions' weights",
    "nearest_question": "the nearest question's weights",
    "noisy_neighbour": "the nearest question's weights plus noise",
    "mean_weights": "mean of the adapted weights",
}
UNCONDITIONAL = {
    "multitask": "Uncond. Multitask",
    "maml": "Uncond. MNet-MAML",
    "fomaml": "Uncond. MNet-FOMAML",
    "hnet_maml": "Uncond. HNet-MAML",
}
CONDITIONAL = {name: ZERO_SHOT[name] for name in ("cond_multitask", "film", "cond_hnet_maml")}
# What zero-shot methods are compared with.
FLOORS = {
    "chance": "chance",
    "encoder": "encoder as base model",
    "encoder_with_question": "encoder, question in the answers' statements",
    **UNCONDITIONAL,
    "few_shot_maml": "few-shot MNet-MAML (the paper's ceiling)",
}
FEW_SHOT = {
    "chance": "chance",
    "encoder": "encoder as base model (floor)",
    **{f"few_shot_{name}": label for name, label in (UNCONDITIONAL | CONDITIONAL).items()},
}
# Task inference: which weights HyperCLIP reads, and what it is asked for.
INFERENCE = {
    "hyperclip": "adapted weights, through the HVAE",
    "hyperclip_hnet": "weights of adapted latents of an HNet",
}
RANKS = {
    "top_1": "top 1",
    "top_10": "top 10",
    "chance_top_1": "chance, top 1",
    "chance_top_10": "chance, top 10",
}
