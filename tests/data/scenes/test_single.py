"""Pictures of one object, with captions."""

import numpy as np

from weightgen.data.scenes.render import render
from weightgen.data.scenes.single import MOST_BAR, single_objects


def test_every_object_comes_once_with_a_true_caption():
    found = single_objects()
    assert len(dict(found)) == 8 * 8 * 3 * 4 == len(found)
    assert found == single_objects() != single_objects(seed=1)
    for caption, scene in found[::50]:
        (item,) = scene.objects
        assert caption == f"a {item.size} {item.color} {item.shape} in the {item.position}"
        assert (item.x > 32) == item.position.endswith("right") and (item.y > 32) == item.position.startswith(
            "bottom"
        )
        assert np.random.default_rng(scene.noise_seed).random() >= MOST_BAR


def test_a_picture_shows_its_object():
    by_caption = dict(single_objects())
    pixels = np.asarray(render(by_caption["a large red square in the top left"])).astype(float)
    red = (pixels[..., 0] > 150) & (pixels[..., 1] < 100)
    assert red[:32, :32].mean() > 0.3 and not red[32:].any() and not red[:, 34:].any()
