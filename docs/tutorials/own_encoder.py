# %% [markdown]
# # Your photos, your encoder
#
# From photographs and a table of questions to a pipeline, with an encoder of your own choice. The photographs are drawn here, and the towers are small and
# untrained, so that the page runs in seconds: replace both.

# %%
import subprocess
import sys
import tempfile
from pathlib import Path

import timm
import torch
from PIL import Image, ImageDraw
from safetensors.torch import save_file

folder = Path(tempfile.mkdtemp())
recipes = Path("recipes") if Path("recipes").is_dir() else Path("../../recipes")


def run(script: Path, *settings: str) -> None:
    """Run a script as in a shell: python SCRIPT key=value ..."""
    done = subprocess.run([sys.executable, str(script), *settings], capture_output=True, text=True)
    print(done.stdout.strip().splitlines()[-1] if done.stdout.strip() else "")
    assert done.returncode == 0, done.stderr


# %% [markdown]
# **1. Photographs**, one folder for each kind of thing, and **2. a table** with a question, an image and an answer in each row.

# %%
COLORS, SHAPES = ("red", "green", "blue", "yellow", "black", "white"), ("circle", "square")
rows = ["question,image,answer"]
for color in COLORS:
    for shape in SHAPES:
        kind = folder / "photos" / f"{color} {shape}"
        kind.mkdir(parents=True)
        for i in range(6):
            image = Image.new("RGB", (48, 48), (200 - 5 * i, 200, 200))
            draw = getattr(ImageDraw.Draw(image), "ellipse" if shape == "circle" else "rectangle")
            draw((6 + i, 6, 40 - i, 42), fill=color)
            name = f"{color}_{shape}_{i}"
            image.save(kind / f"{name}.png")
            rows += [f"What color is it?,{name},{color}", f"What shape does it have?,{name},{shape}"]
            rows += [f"Is it {each}?,{name},{'yes' if each == color else 'no'}" for each in COLORS]
(folder / "pairs.csv").write_text("\n".join(rows))
run(recipes.parent / "data/meta_vqa/prepare.py", "--table", str(folder / "pairs.csv"), "--output-dir", str(folder / "data"),
    "--min-examples", "10", "--task-fraction", "0.8", "--validation-fraction", "0.3")  # fmt: skip

# %% [markdown]
# **3. An encoder.** Any image tower of timm and any text tower of transformers become a pair by ridge regression on the class folders. Give the names of trained
# towers and leave out the lines that make small ones.

# %%
torch.manual_seed(0)
tower = "resnet10t"
save_file(timm.create_model(tower, num_classes=0).state_dict(), folder / "tower.safetensors")
text_tower = "sentence-transformers/all-MiniLM-L6-v2"  # in weightgen[photos]
run(recipes / "fit_alignment.py", f"images={folder / 'photos'}", f"output={folder / 'pair'}", f"image_tower={tower}",
    f"image_weights={folder / 'tower.safetensors'}", "size=64", f"text_tower={text_tower}", "dim=8")  # fmt: skip

# %% [markdown]
# An encoder of another kind is a class with the methods that [Extend it](../extending.md) lists, and a CLIP needs no step 3: give
# `model=ViT-B-32 pretrained=openai`, or a folder, to `embed.py`.
#
# **4. Features**, once; then **5. training**, here a plain hypernetwork for a few steps. [Recipes](../../recipes/README.md) lists the stages of HyperLDM.

# %%
run(
    recipes / "embed.py",
    f"dataset={folder / 'data'}",
    f"images={folder / 'photos'}",
    f"encoder={{folder: {folder / 'pair'}}}",
)
run(recipes / "train_hypernet.py", f"dataset={folder / 'data'}", f"output={folder / 'run'}", "steps=20", "validate_every=10",
    "hypernet={_component_: weightgen.hypernets.HNet, hidden_dims: [32]}", "network.hidden_dim=8", "batch_size=4", "lr=0.001")  # fmt: skip
assert (folder / "run" / "hypernet" / "model.safetensors").is_file()

# %% [markdown]
# The demo runs all stages with settings that work, and answers about your photos: `make demo PROMPT="Does it have wheels?" IMAGES=my_photos`.
