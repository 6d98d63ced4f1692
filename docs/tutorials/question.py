# %% [markdown]
# # Weights from a question
#
# The pipeline `photos` comes with the package. It knows 100 kinds of things that are seen in photographs.
# Install it with `pip install 'weightgen[photos]'`.

# %%
from pathlib import Path

import skimage
import torch
from PIL import Image

from weightgen import WeightPipeline

pipe = WeightPipeline.from_pretrained("photos")

# %% [markdown]
# A question and its possible answers give the weights of a classifier. Here we sample eight of them.

# %%
out = pipe(
    "Does it have wheels?",
    answers=["yes", "no"],
    num_samples=8,
    guidance_scale=1.0,
    generator=torch.Generator().manual_seed(0),
)
print(out.weights.shape)  # (1 question, 8 samples, P weights)

# %% [markdown]
# `familiarity` says how near the question is to the questions of the training: near 1 it is like them, near 0 it is not, and then the answers are
# not to be relied on. `warning` says so in words.

# %%
strange = pipe("Was it made before 1900?", answers=["yes", "no"])
print(f"{out.familiarity[0]:.2f}", out.warning())
print(f"{strange.familiarity[0]:.2f}", strange.warning())

# %% [markdown]
# A classifier is a plain `nn.Module` with two more methods. Here it sees two photographs that scikit-image carries: a motorcycle, and a cat.

# %%
folder = Path(skimage.__file__).parent / "data"
images = [Image.open(folder / name) for name in ("motorcycle_left.png", "chelsea.png")]
classifier = out.classifier(0, 0)
print(classifier.predict(images))

# %% [markdown]
# The samples differ. Their mean is steadier than one of them, and their spread shows how much the answer depends on the sample.

# %%
shares = torch.stack([out.classifier(0, k).probabilities(images) for k in range(8)])
for name, mean, spread in zip(
    ("motorcycle", "cat"), shares.mean(dim=0)[:, 0], shares.std(dim=0)[:, 0], strict=True
):
    print(f"{name}: {mean:.2f} yes, ± {spread:.2f} over the samples")
assert shares.shape == (8, 2, 2) and out.familiarity[0] > strange.familiarity[0]
