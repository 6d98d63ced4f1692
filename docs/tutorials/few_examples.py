# %% [markdown]
# # A few examples, alone and with the question
#
# A question about color, and six pictures with their answers.

# %%
import torch
from PIL import Image

from weightgen import WeightPipeline
from weightgen.evaluation.baselines import logistic_regression

pipe = WeightPipeline.from_pretrained("photos")


def picture(color: str, size: int) -> Image.Image:
    """A square of a color on grey; in place of your own photographs."""
    image = Image.new("RGB", (64, 64), "grey")
    image.paste(color, (32 - size, 32 - size, 32 + size, 32 + size))
    return image


images = [picture(color, size) for size in (8, 14, 20) for color in ("red", "blue")]
labels = ["red", "blue"] * 3
new = [picture("red", 11), picture("blue", 17)]

# %% [markdown]
# ## With the question
#
# `with_examples` mixes the answers of the sampled classifiers with a regression on the examples. How much each of them counts is fitted to the examples, and
# depends on the familiarity of the question.

# %%
out = pipe(
    "What color is it?", answers=["red", "blue"], num_samples=4, generator=torch.Generator().manual_seed(0)
)
mixed = out.with_examples(images, labels)
print(mixed.predict(new))

# %% [markdown]
# ## Alone
#
# Without a question, logistic regression on the encoder's features is hard to beat: see [which method when](../which_method.md). It takes three lines.

# %%
features = pipe.encoder.encode_images(images)
model = logistic_regression().fit(features.numpy(), labels)
print(model.predict(pipe.encoder.encode_images(new).numpy()).tolist())
assert mixed.predict(new) == ["red", "blue"]

# %% [markdown]
# A pipeline whose prior was trained with support sets takes examples in the call itself: `pipe(support=(images, labels), answers=answers)`, alone or with
# a question. `recipes/train_support.py` and `recipes/train_hyperldm.py support=...` train one; the shipped pipeline takes questions only.
