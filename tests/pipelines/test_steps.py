"""What people know from diffusers: a callback after each step, latents as output, `to`, and a progress bar."""

import pytest
import torch
from torch.testing import assert_close

from tests.tiny import Z, tiny_pipeline
from weightgen import InputError

STAR = "What color is the star?"
ANSWERS = ["red", "green"]


@pytest.fixture
def pipe(tmp_path):
    return tiny_pipeline(tmp_path)


def seeded():
    return torch.Generator().manual_seed(3)


def test_the_callback_sees_every_step(pipe):
    seen = []

    def watch(of, step, time, kwargs):
        assert of is pipe and kwargs.keys() == {"latents"}
        seen.append((step, int(time), kwargs["latents"].clone()))
        return kwargs

    out = pipe(STAR, num_samples=2, num_inference_steps=4, generator=seeded(), callback_on_step_end=watch)
    plain = pipe(STAR, num_samples=2, num_inference_steps=4, generator=seeded())
    assert torch.equal(out.weights, plain.weights)
    assert [step for step, _, _ in seen] == [0, 1, 2, 3]
    times = [time for _, time, _ in seen]
    assert times == sorted(times, reverse=True)
    assert_close(pipe.prior.latents.inverse(seen[-1][2]), out.latents[0])


def test_the_callback_may_change_latents(pipe):
    def hold(of, step, time, kwargs):
        return {"latents": torch.zeros_like(kwargs["latents"])}

    out = pipe(STAR, num_samples=2, generator=seeded(), callback_on_step_end=hold)
    assert_close(out.latents[0], pipe.prior.latents.inverse(torch.zeros(2, Z)))


@pytest.mark.parametrize("returned", [[], {"latents": torch.zeros(1, Z)}, {"latents": None}])
def test_wrong_callbacks(pipe, returned):
    with pytest.raises(InputError, match="callback_on_step_end must"):
        pipe(STAR, num_samples=2, callback_on_step_end=lambda *_: returned)


def test_latents_as_output(pipe):
    bare = pipe(STAR, ANSWERS, num_samples=2, generator=seeded(), output_type="latent")
    full = pipe(STAR, ANSWERS, num_samples=2, generator=seeded())
    assert bare.weights.shape == (1, 2, 0) and torch.equal(bare.latents, full.latents)
    for use in (bare.classifier, bare.state_dict, lambda: bare.save("x.safetensors")):
        with pytest.raises(InputError, match="decoded"):
            use()
    assert_close(bare.decoded().weights, full.weights)
    bare.latents[:] = 0
    assert_close(bare.decoded().weights[0, 0], pipe.decode(torch.zeros(1, Z))[0])
    with pytest.raises(InputError, match="output_type must be"):
        pipe(STAR, output_type="pil")


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_precision(pipe, dtype):
    expected = pipe(STAR, ANSWERS, num_samples=2, generator=seeded(), temperature=0.0)
    assert pipe.to(dtype=dtype) is pipe
    out = pipe(STAR, ANSWERS, num_samples=2, generator=seeded(), temperature=0.0)
    assert out.weights.dtype == out.latents.dtype == dtype
    assert_close(out.weights.float(), expected.weights, atol=0.2, rtol=0.2)
    pictures = torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8)
    classifier = out.classifier()
    shares = classifier.probabilities(pictures)
    assert shares.dtype == torch.float32  # the encoder's
    assert_close(shares, expected.classifier().probabilities(pictures), atol=0.1, rtol=0.1)
    assert pipe.to("cpu", torch.float32).prior.latents.mean.dtype == torch.float32


def test_devices(pipe):
    if torch.cuda.is_available():
        out = pipe.to("cuda")(STAR, ANSWERS, num_samples=2)
        assert out.weights.is_cuda and out.classifier().probabilities(torch.zeros(1, 3, 32, 32)).is_cuda
    meta = pipe.to("meta")
    assert meta.device.type == "meta" and meta.encoder.device.type == "meta"
    assert next(meta.encoder.model.parameters()).is_meta and next(meta.network.module.parameters()).is_meta


def test_wrong_places(pipe):
    with pytest.raises(InputError, match="no device 'gpu'"):
        pipe.to("gpu")
    with pytest.raises(InputError, match="floating-point type"):
        pipe.to(dtype=torch.int8)
    with pytest.raises(InputError, match="write to\\(dtype=torch.float16\\)"):
        pipe.to(torch.float16)


def test_progress(pipe, capsys):
    pipe(STAR, num_inference_steps=3)
    assert capsys.readouterr().err == ""
    pipe.set_progress_bar_config(desc="sampling")
    pipe(STAR, num_inference_steps=3)
    assert "sampling" in (told := capsys.readouterr().err) and "3/3" in told
    pipe.set_progress_bar_config(disable=True)
    pipe(STAR, num_inference_steps=3)
    assert capsys.readouterr().err == ""
