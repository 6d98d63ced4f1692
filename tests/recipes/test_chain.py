"""The recipes as they are run: from files to a trained model, with settings as small as can be."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from weightgen import WeightPipeline
from weightgen.data.meta_vqa.disk import load_meta_vqa

ROOT = Path(__file__).resolve().parents[2]


def run(script, *words):
    env = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, script, *map(str, words)], cwd=ROOT, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_from_rendered_scenes_to_a_report(tmp_path):
    data = f"dataset={tmp_path / 'scenes/dataset'}"
    run("data/scenes/prepare.py", "--output-dir", tmp_path / "scenes", "--images", 700)
    assert {"train", "validation", "held_out_meanings", "new_wordings"} <= load_meta_vqa(
        tmp_path / "scenes/dataset"
    ).keys()
    run(
        "recipes/embed.py",
        data,
        f"images={tmp_path / 'scenes/images'}",
        "model=data/scenes/clip",
        "name=clip",
    )

    def train(name, output, *words):
        run(f"recipes/{name}.py", data, *words, f"output={tmp_path / output}")

    small = ["steps=2", "validate_every=1", "batch_size=8"]
    network = "network={_component_: weightgen.networks.CLIPAdapter, hidden_dim: 4}"
    train("train_hypernet", "multitask", network, *small)
    start = f"start={tmp_path / 'multitask'}"
    train("train_hypernet", "conditional", start, *small, "hypernet._component_=weightgen.hypernets.HNet")
    train("adapt_tasks", "adapted", start, "draws=2", "steps=[2]", "lrs=[0.1,0.3]")
    adapted = f"adapted={tmp_path / 'adapted'}"
    hvae = "hypernet={_component_: weightgen.hypernets.HVAE, latent_dim: 4, hidden_dims: [8]}"
    train("train_hvae", "hvae", adapted, hvae, *small, "function_weight=1")
    denoiser = "denoiser={_component_: weightgen.priors.MLPDenoiser, hidden_dims: [16]}"
    train("train_hyperldm", "pipeline", adapted, f"hvae={tmp_path / 'hvae'}", denoiser, *small)
    pipe = WeightPipeline.from_pretrained(tmp_path / "pipeline")
    assert pipe("What color is the star?", ["red", "green"], num_samples=2).weights.shape[:2] == (1, 2)

    models = [f"{key}={tmp_path / key}" for key in ("pipeline", "multitask", "adapted")]
    models += [f"cond_multitask={tmp_path / 'conditional'}", f"start={tmp_path / 'multitask'}"]
    few = [
        "curve=[1.0]",
        "seeds=[0,1]",
        "num_inference_steps=2",
        "steps=2",
        "lrs=[0.1]",
        "shots=[1]",
        "logistic_c=[1.0]",
    ]
    table = run("recipes/evaluate.py", data, *models, *few, f"output={tmp_path / 'report.json'}")
    report = json.loads((tmp_path / "report.json").read_text())
    rows = {
        "chance",
        "encoder",
        "uncond_multitask",
        "cond_multitask",
        "hyperldm_shuffled",
        "neighbours_average",
    }
    for group in ("validation", "held_out_meanings", "new_wordings"):
        assert rows <= report["splits"][group].keys()
        assert set(report["splits"][group]["hyperldm"]) == {"0.0", "1.0", "1.5"}
    assert f"{100 * report['splits']['held_out_meanings']['encoder']:.1f}" in table


@pytest.mark.slow
def test_from_official_files_to_a_training_step_with_vit_l(tmp_path):
    """Tiny files in the official format, JPEGs, ViT-L-14-336 with random weights, one training step."""
    rng = np.random.default_rng(0)
    for split, first in (("train2014", 1), ("val2014", 100)):
        questions, annotations = [], []
        (tmp_path / "images" / split).mkdir(parents=True)
        for image in range(first, first + 12):
            pixels = rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / split / f"COCO_{split}_{image:012d}.jpg")
            for number in range(5):
                ids = {"image_id": image, "question_id": image * 1000 + number}
                questions.append({**ids, "question": f"What color is thing {number}?"})
                answer = ("red", "blue")[image % 2]
                annotations.append({**ids, "answer_type": "other", "multiple_choice_answer": answer})
        head = {"data_type": "mscoco", "data_subtype": split}
        (tmp_path / f"v2_OpenEnded_mscoco_{split}_questions.json").write_text(
            json.dumps({**head, "task_type": "Open-Ended", "questions": questions})
        )
        (tmp_path / f"v2_mscoco_{split}_annotations.json").write_text(
            json.dumps({**head, "annotations": annotations})
        )
    out = tmp_path / "meta"
    words = ["--vqa-dir", tmp_path, "--output-dir", out, "--validation-fraction", 0.3]
    run("data/meta_vqa/prepare.py", *words)
    model = ["model=ViT-L-14-336", "random_weights=true", "batch_size=4"]
    run("recipes/embed.py", f"dataset={out}", f"images={tmp_path / 'images'}", *model)
    run(
        "recipes/train_hypernet.py",
        f"dataset={out}",
        f"output={tmp_path / 'multitask'}",
        "steps=1",
        "batch_size=2",
    )
    assert (tmp_path / "multitask/hypernet/model.safetensors").is_file()
