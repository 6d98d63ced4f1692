import json
import shutil

import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler
from PIL import Image

from tests.tiny import E, Z, tiny_pipeline
from tests.towers import tiny_paired
from weightgen import ClassifierFreeGuidance, Examples, FewShotGuidance, InputError
from weightgen.pipelines.weight_pipeline import WeightPipeline
from weightgen.priors import DiffusionPrior, MLPDenoiser
from weightgen.storage.files import write_tensors

STAR, MOON = "What color is the star?", "What shape is the moon?"
COLORS = ["red", "green", "blue"]


@pytest.fixture(scope="module")
def pipe(tmp_path_factory):
    return tiny_pipeline(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def saved(pipe, tmp_path):
    pipe.save_pretrained(tmp_path / "pipe")
    return tmp_path / "pipe"


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_shapes_and_what_is_remembered(pipe):
    out = pipe([STAR, MOON], COLORS, num_samples=3, num_inference_steps=5, generator=seeded())
    assert out.weights.shape == (2, 3, pipe.space.size) and out.latents.shape == (2, 3, Z)
    assert out.prompts == [STAR, MOON] and out.answers == [COLORS, COLORS]
    assert out.templates[0] == "the star is {}"
    assert out.info == {"guidance_scale": 1.5, "num_inference_steps": 5, "temperature": 1.0}


def test_prompt_noise_and_scale_all_matter(pipe):
    base = pipe(STAR, num_samples=2, generator=seeded()).weights
    assert not torch.allclose(base[0, 0], base[0, 1])
    for other in (
        pipe(MOON, num_samples=2, generator=seeded()),
        pipe(STAR, num_samples=2, generator=seeded(1)),
        pipe(STAR, num_samples=2, generator=seeded(), guidance_scale=1),
    ):
        assert not torch.allclose(other.weights, base, atol=1e-3)


def test_a_saved_pipeline_samples_the_same(pipe, saved):
    loaded = WeightPipeline.from_pretrained(saved)
    one, other = (each(STAR, COLORS, num_samples=2, generator=seeded()) for each in (pipe, loaded))
    assert torch.equal(one.weights, other.weights) and torch.equal(one.latents, other.latents)
    image = [Image.new("RGB", (40, 32), "red"), Image.new("RGB", (32, 32), "blue")]
    shares = one.classifier().probabilities(image)
    assert torch.equal(shares, other.classifier().probabilities(image))
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(2))
    assert loaded.description["parts"] == pipe.description["parts"]
    assert not list(saved.parent.glob(".*"))


def test_a_saved_pipeline_needs_nothing_beside_it(saved, tmp_path):
    expected = WeightPipeline.from_pretrained(saved)(STAR, generator=seeded()).weights
    moved = shutil.move(saved, tmp_path / "elsewhere")
    assert torch.equal(WeightPipeline.from_pretrained(moved)(STAR, generator=seeded()).weights, expected)


@pytest.mark.parametrize("scale", [0, 1, 1.5])
def test_the_same_generator_gives_the_same_weights_whatever_the_batch(pipe, scale):
    alone = [pipe(text, num_samples=2, generator=seeded(), guidance_scale=scale) for text in (STAR, MOON)]
    together = pipe([STAR, MOON], num_samples=2, generator=seeded(), guidance_scale=scale)
    listed = pipe([STAR, MOON], num_samples=2, generator=[seeded(), seeded()], guidance_scale=scale)
    expected = torch.cat([out.weights for out in alone])
    torch.testing.assert_close(together.weights, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(listed.weights, expected, atol=1e-5, rtol=1e-5)


def test_the_first_samples_do_not_depend_on_their_number(pipe):
    few, many = (pipe(STAR, num_samples=k, generator=seeded()).weights for k in (2, 20))
    torch.testing.assert_close(many[:, :2], few, atol=1e-5, rtol=1e-5)


def test_guidance_scale_zero_ignores_the_prompt(pipe):
    one, other = (pipe(text, guidance_scale=0, generator=seeded()).weights for text in (STAR, MOON))
    assert torch.equal(one, other)


def test_embeddings_in_place_of_prompts(pipe):
    embeds = pipe.encoder.encode_texts([STAR]).clone()
    given = pipe(prompt_embeds=embeds, generator=seeded())
    assert torch.equal(given.weights, pipe(STAR, generator=seeded()).weights)
    answered = pipe(prompt_embeds=embeds, answers=COLORS, template="the star is {}", generator=seeded())
    assert answered.classifier().answers == COLORS


def test_the_template_of_the_data_is_kept_and_used(pipe, tmp_path):
    parts = (pipe.encoder, pipe.prior, pipe.hypernet, pipe.network)
    WeightPipeline(*parts, template="it is {}").save_pretrained(tmp_path / "bare")
    loaded = WeightPipeline.from_pretrained(tmp_path / "bare")
    assert loaded(STAR, COLORS, generator=seeded()).templates == ["it is {}"]
    assert loaded(STAR, COLORS, template="a {} star", generator=seeded()).templates == ["a {} star"]
    answered = loaded(prompt_embeds=torch.ones(1, E), answers=COLORS, generator=seeded())
    assert answered.templates == ["it is {}"]
    with pytest.raises(InputError, match="template must have exactly one"):
        WeightPipeline(*parts, template="it is")


def test_the_classifier_holds_the_sampled_weights(pipe):
    out = pipe([STAR, MOON], COLORS, num_samples=2, generator=seeded())
    images = [Image.new("RGB", (32, 32), color) for color in COLORS]
    features = pipe.encoder.encode_images(images).clone()
    for prompt, sample in ((0, 0), (1, 1)):
        classifier = out.classifier(prompt, sample)
        answers = classifier.answer_embeds
        expected = pipe.network.single(out.weights[prompt, sample], features, answers=answers)
        torch.testing.assert_close(classifier(features), expected)
        assert classifier.predict(images) == [COLORS[i] for i in expected.argmax(dim=1).tolist()]
        state = out.state_dict(prompt, sample)
        assert all(torch.equal(state[name], value) for name, value in classifier.network.state_dict().items())


def test_saved_weights(pipe, tmp_path):
    out = pipe([STAR, MOON], COLORS, num_samples=2, generator=seeded())
    out.save(tmp_path / "moon.safetensors", prompt=1)
    back = pipe.load_weights(tmp_path / "moon.safetensors")
    assert torch.equal(back.weights[0], out.weights[1]) and torch.equal(back.latents[0], out.latents[1])
    assert (back.prompts, back.templates) == ([MOON], [out.templates[1]])
    assert back.answers == [COLORS] and back.info == out.info


def test_weights_of_another_model_are_refused(pipe, tmp_path):
    out = pipe(STAR, COLORS, generator=seeded())
    out.weights = out.weights[..., :-1]
    out.save(tmp_path / "x.safetensors")
    write_tensors(tmp_path / "bare.safetensors", {"weights": torch.zeros(1, 2)})
    for name, message in (("x", "another model"), ("bare", "holds no weights")):
        with pytest.raises(InputError, match=message):
            pipe.load_weights(tmp_path / f"{name}.safetensors")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompt": ""}, "expected a question"),
        ({"prompt": [STAR, " "]}, "expected a question"),
        ({"prompt": []}, "expected a question"),
        ({}, "either a prompt or prompt_embeds"),
        ({"prompt": STAR, "prompt_embeds": torch.ones(1, E)}, "either a prompt or prompt_embeds"),
        ({"prompt": STAR, "answers": ["red"]}, "two answers or more"),
        ({"prompt": STAR, "answers": []}, "two answers or more|one list of answers"),
        ({"prompt": STAR, "answers": ["red", "green", "red"]}, "must differ"),
        ({"prompt": STAR, "answers": ["dark red", "Dark  red"]}, "must differ"),
        ({"prompt": STAR, "answers": ["red", " "]}, "not empty"),
        ({"prompt": STAR, "answers": ["", ""]}, "not empty"),
        ({"prompt": STAR, "answers": "red,green"}, "must be a list"),
        ({"prompt": [STAR, MOON], "answers": [["red", "green"]]}, "one list of answers"),
        ({"prompt": STAR, "answers": COLORS, "template": "no place"}, "exactly one"),
        ({"prompt_embeds": torch.ones(1, E), "answers": COLORS}, "need a template"),
        ({"prompt": STAR, "num_inference_steps": 0}, "from 1 to 50"),
        ({"prompt": STAR, "num_inference_steps": 51}, "from 1 to 50"),
        ({"prompt": STAR, "num_samples": 0}, "at least 1"),
        ({"prompt": STAR, "generator": [seeded(), seeded()]}, "one generator"),
    ],
)
def test_wrong_use_is_one_line(pipe, arguments, message):
    with pytest.raises(InputError, match=message) as caught:
        pipe(**arguments)
    assert "\n" not in str(caught.value)


def test_a_classifier_needs_answers(pipe):
    with pytest.raises(InputError, match="answers"):
        pipe(STAR, generator=seeded()).classifier()


def test_a_scheduler_that_clips_is_refused(pipe):
    before = pipe.scheduler
    with pytest.raises(InputError, match="clip_sample"):
        pipe.scheduler = DDIMScheduler(clip_sample=True)
    assert pipe.scheduler is before


def test_a_saved_scheduler_that_clips_is_refused(saved):
    path = saved / "prior" / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "clip_sample": True}))
    with pytest.raises(InputError, match="clip_sample"):
        WeightPipeline.from_pretrained(saved)


def test_an_existing_folder_is_not_replaced(pipe, saved):
    with pytest.raises(InputError, match="exists already"):
        pipe.save_pretrained(saved)
    pipe.save_pretrained(saved, overwrite=True)


def test_no_such_folder(tmp_path):
    with pytest.raises(InputError, match="no folder"):
        WeightPipeline.from_pretrained(tmp_path / "nothing")


def test_a_folder_of_another_library(tmp_path):
    (tmp_path / "model_index.json").write_text("{}")
    with pytest.raises(InputError, match="not a saved WeightPipeline"):
        WeightPipeline.from_pretrained(tmp_path)
    (tmp_path / "pipeline.json").write_text('{"format": "other"}')
    with pytest.raises(InputError, match="not of format"):
        WeightPipeline.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    "part",
    [
        "hypernet/model",
        "network/model",
        "prior/denoiser/model",
        "prior/latents",
        "encoder/clip/open_clip_model",
    ],
)
def test_a_truncated_file(saved, part):
    path = saved / f"{part}.safetensors"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError) as caught:
        WeightPipeline.from_pretrained(saved)
    assert "\n" not in str(caught.value) and path.parent.name in str(caught.value)


def test_foreign_classes_load_only_when_asked(saved):
    path = saved / "pipeline.json"
    record = json.loads(path.read_text())
    record["parts"]["network"] = "torch.nn.Linear"
    path.write_text(json.dumps(record))
    with pytest.raises(InputError, match="trust_remote_code"):
        WeightPipeline.from_pretrained(saved)


def test_a_guidance_scale_that_is_no_number(pipe):
    with pytest.raises(InputError, match="guidance_scale must be a finite number"):
        pipe(STAR, guidance_scale=float("nan"))


def test_what_was_trained_without_dropout_is_not_guided(tmp_path):
    pipe = tiny_pipeline(tmp_path)
    assert pipe.guidable
    pipe.guidable = False
    pipe.save_pretrained(tmp_path / "pipe")
    loaded = WeightPipeline.from_pretrained(tmp_path / "pipe")
    for scale in (0.0, 1.5):
        with pytest.raises(InputError, match="without conditioning dropout .*guidance_scale=1, got"):
            loaded(STAR, guidance_scale=scale)
    assert loaded(STAR, guidance_scale=1, num_inference_steps=2).weights.isfinite().all()


def test_no_question_is_no_prompt(pipe):
    embeds = torch.stack([torch.ones(E), torch.zeros(E)])
    with pytest.raises(InputError, match="'no question': .*guidance_scale=0"):
        pipe(prompt_embeds=embeds)
    assert pipe(prompt_embeds=embeds, guidance_scale=0, num_inference_steps=2).weights.isfinite().all()


def test_an_encoder_whose_questions_have_a_length_of_their_own(pipe, tmp_path):
    (tmp_path / "towers").mkdir()
    pair = tiny_paired(tmp_path / "towers", dim=E)
    with pytest.raises(InputError, match=f"questions of length {E}, but the encoder .* gives 16"):
        WeightPipeline(pair, pipe.prior, pipe.hypernet, pipe.network)
    denoiser = MLPDenoiser(latent_dim=Z, embed_dim=16, hidden_dims=(32,), time_dim=8)
    denoiser.embeds.fit(pair.encode_questions([STAR, MOON]))
    prior = DiffusionPrior(denoiser, DDIMScheduler(num_train_timesteps=50, clip_sample=False))
    prior.latents.load_state_dict(pipe.prior.latents.state_dict())
    other = WeightPipeline(pair, prior, pipe.hypernet, pipe.network)
    out = other(STAR, COLORS, generator=seeded())
    other.save_pretrained(tmp_path / "pipe")
    shutil.rmtree(tmp_path / "towers")
    back = WeightPipeline.from_pretrained(tmp_path / "pipe")(STAR, COLORS, generator=seeded())
    assert torch.equal(back.weights, out.weights)
    image = Image.new("RGB", (40, 32), "red")
    assert torch.equal(back.classifier().probabilities(image), out.classifier().probabilities(image))


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("euler", [False, True])
def test_few_shot_guidance_goes_through_the_pipeline(pipe, euler):
    """It is put around the guidance by the question, and makes the sampled networks fit the examples better."""
    before = pipe.scheduler
    if euler:
        pipe.scheduler = EulerDiscreteScheduler(num_train_timesteps=50)
    support = Examples(torch.randn(2, 6, E), torch.tensor([[0, 1] * 3, [1, 0] * 3]))
    context = {"answers": torch.randn(2, 2, E)}

    def guide(denoiser):
        assert isinstance(denoiser, ClassifierFreeGuidance)
        parts = (pipe.prior, pipe.hypernet, pipe.network)
        return FewShotGuidance.of_support(denoiser, *parts, support, context, 5.0, samples=3)

    how = {"num_samples": 3, "num_inference_steps": 12}
    try:
        plain = pipe([STAR, MOON], generator=seeded(), **how)
        guided = pipe([STAR, MOON], generator=seeded(), guide=guide, **how)
    finally:
        pipe.scheduler = before
    losses = []
    for out in (plain, guided):
        logits = pipe.network(out.weights, support.inputs, **context)
        labels = support.labels[:, None].expand(logits.shape[:-1])
        losses.append(torch.nn.functional.cross_entropy(logits.flatten(0, 2), labels.flatten()))
    assert losses[1] < losses[0] - 0.01


def test_a_pipeline_that_comes_with_the_package_is_found_by_its_name(pipe, tmp_path, monkeypatch):
    pipe.save_pretrained(tmp_path / "models/photos", training={"steps": 3})
    assert json.loads((tmp_path / "models/photos/training.json").read_text()) == {"steps": 3}
    monkeypatch.setattr("weightgen.storage.shipped.SHIPPED", tmp_path / "models")
    monkeypatch.chdir(tmp_path)
    assert WeightPipeline.from_pretrained("photos").encoder.digest == pipe.encoder.digest
    with pytest.raises(InputError, match="no folder elsewhere"):
        WeightPipeline.from_pretrained("elsewhere")
