"""Exported networks give what the network in the library gives, in programs without torch or weightgen."""

import json
import os
import resource
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from tests.tiny import E, Z, tiny_pipeline
from weightgen import (
    HVAE,
    CLIPAdapter,
    ConvNet,
    DiffusionPrior,
    Examples,
    FunctionalNetwork,
    HyperTransformer,
    InputError,
    MLPDenoiser,
    WeightPipeline,
    lora_target,
)
from weightgen.cli import main
from weightgen.exports import export_network
from weightgen.networks import MLP, TokenAdapter
from weightgen.networks.named_parameters import NamedParameters
from weightgen.training.kills import end, start

STAR, COLORS = "What color is the star?", ["red", "green", "blue"]
CLOSE = {"atol": 1e-5, "rtol": 1e-5}
BLOCK = "import sys\nsys.modules.update(dict.fromkeys(['torch', 'weightgen']))\n"


@pytest.fixture(scope="module")
def pipe(tmp_path_factory):
    return tiny_pipeline(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def out(pipe):
    return pipe(STAR, COLORS, num_samples=2, guidance_scale=1.0, generator=torch.Generator().manual_seed(3))


def expected(out, features, samples=(0, 1)):
    with torch.no_grad():
        return torch.stack([out.classifier(0, k)(features).softmax(-1) for k in samples]).mean(dim=0)


def run(code, *words, folder):
    """What a process without torch and without weightgen prints as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", BLOCK + code, *map(str, words)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return torch.tensor(json.loads(done.stdout))


def by_numpy(folder, inputs):
    np.save(folder / "inputs.npy", inputs.numpy())
    code = "import json, numpy as np\nsys.path.insert(0, '.')\nfrom use import probabilities\n"
    return run(f"{code}print(json.dumps(probabilities(np.load('inputs.npy')).tolist()))", folder=folder)


def by_onnx(folder, inputs):
    pytest.importorskip("onnxruntime")
    np.save(folder / "inputs.npy", inputs.numpy())
    code = (
        "import json, numpy as np, onnxruntime\nsession = onnxruntime.InferenceSession('model.onnx')\n"
        "name = session.get_inputs()[0].name\n"
    )
    return run(
        f"{code}print(json.dumps(session.run(None, {{name: np.load('inputs.npy')}})[0].tolist()))",
        folder=folder,
    )


def test_state_dict(out, tmp_path):
    out.save_pretrained(tmp_path / "all")
    out.save_pretrained(tmp_path / "one", "state_dict", sample=1)
    features = torch.randn(5, E)
    answers = load_file(tmp_path / "all/context.safetensors")["answers"]
    for folder in (tmp_path / "all/sample_1", tmp_path / "one"):
        network = CLIPAdapter.from_pretrained(folder)
        torch.testing.assert_close(network(features, answers), out.classifier(0, 1)(features), **CLOSE)
    about = json.loads((tmp_path / "one/export.json").read_text())
    assert about["question"] == STAR and about["answers"] == COLORS and about["networks"] == 1


def test_numpy(out, tmp_path):
    out.save_pretrained(tmp_path / "numpy", "numpy")
    features = torch.randn(5, E)
    torch.testing.assert_close(by_numpy(tmp_path / "numpy", features), expected(out, features), **CLOSE)
    lines = (tmp_path / "numpy/use.py").read_text().splitlines()
    assert sum(bool(line.strip()) and not line.strip().startswith('"""') for line in lines) <= 20
    done = subprocess.run(
        [sys.executable, "use.py", "inputs.npy"], cwd=tmp_path / "numpy", capture_output=True, text=True
    )
    best = expected(out, features).argmax(dim=-1).tolist()
    assert [line.split()[0] for line in done.stdout.splitlines()] == [COLORS[i] for i in best], done.stderr


def test_onnx(out, tmp_path):
    onnx = pytest.importorskip("onnx")
    out.save_pretrained(tmp_path / "onnx", "onnx")
    for count in (1, 5):
        features = torch.randn(count, E)
        torch.testing.assert_close(by_onnx(tmp_path / "onnx", features), expected(out, features), **CLOSE)
    model = onnx.load(tmp_path / "onnx/model.onnx")
    about = json.loads({each.key: each.value for each in model.metadata_props}["weightgen"])
    assert about["answers"] == COLORS and about["opset"] == model.opset_import[0].version == 18


@pytest.mark.slow
def test_onnx_with_the_image_tower(pipe, out, tmp_path):
    pytest.importorskip("onnx")
    pictures = [Image.new("RGB", size, color) for size, color in (((40, 32), "red"), ((20, 50), "blue"))]
    out.save_pretrained(tmp_path / "onnx", "onnx", sample=0, image_tower=True)
    pixels = torch.stack([pipe.encoder.preprocess(picture) for picture in pictures])
    wanted = out.classifier(0, 0).probabilities(pictures)
    torch.testing.assert_close(by_onnx(tmp_path / "onnx", pixels), wanted, **CLOSE)


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.input_dim = E
        self.body = nn.Sequential(nn.Linear(E, 8), nn.Tanh(), nn.Linear(8, E))

    def forward(self, inputs, answers):
        return self.body(inputs) @ answers.mT


@pytest.fixture(scope="module")
def adapters(pipe):
    """Samples of a pipeline that writes low-rank adapters."""
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    network = lora_target(Own(), peft.LoraConfig(r=2, target_modules=["body.0", "body.2"]))
    hypernet = HVAE(network.space, latent_dim=Z, hidden_dims=(16,)).fit(
        0.1 * torch.randn(64, network.space.size)
    )
    denoiser = MLPDenoiser(latent_dim=Z, embed_dim=E, hidden_dims=(32,), time_dim=8)
    denoiser.embeds.fit(torch.randn(9, E))
    prior = DiffusionPrior(denoiser, pipe.prior.scheduler)
    prior.latents.fit(torch.randn(64, Z))
    return WeightPipeline(pipe.encoder, prior, hypernet, network)(STAR, COLORS, num_samples=2)


def test_peft(adapters, tmp_path):
    peft = pytest.importorskip("peft")
    adapters.save_pretrained(tmp_path / "peft", "peft")
    features = torch.randn(5, E)
    base = Own()
    plain = adapters.pipeline.network.module.get_base_model().state_dict()
    base.load_state_dict({k.replace(".base_layer", ""): v for k, v in plain.items() if "lora_" not in k})
    for k in range(2):
        again = peft.PeftModel.from_pretrained(base, str(tmp_path / f"peft/sample_{k}"))
        classifier = adapters.classifier(0, k)
        torch.testing.assert_close(again(features, classifier.answer_embeds), classifier(features), **CLOSE)
        base = again.unload()


def test_adapters_of_a_zoo(adapters, tmp_path):
    peft = pytest.importorskip("peft")
    target = adapters.pipeline.network
    target.with_weights(adapters.weights[0, 1]).save_pretrained(str(tmp_path / "known"))
    config = json.loads((tmp_path / "known/adapter_config.json").read_text())
    shapes = [[name.replace(".default", ""), shape] for name, shape in target.space.to_json()]
    network = FunctionalNetwork(NamedParameters(shapes, config))
    hypernet = HVAE(network.space, latent_dim=Z, hidden_dims=(16,))
    hypernet.load_state_dict(adapters.pipeline.hypernet.state_dict())
    made = WeightPipeline(adapters.pipeline.encoder, adapters.pipeline.prior, hypernet, network)(STAR)
    made.weights[0, 0] = adapters.weights[0, 1]
    made.save_pretrained(tmp_path / "peft", "peft")
    found, known = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("peft", "known"))
    assert found.keys() == known.keys() and all(torch.equal(found[name], known[name]) for name in known)
    again = peft.PeftModel.from_pretrained(Own(), str(tmp_path / "peft"))
    assert again.peft_config["default"].r == 2
    with pytest.raises(InputError, match="needs answers to choose from"):
        made.save_pretrained(tmp_path / "numpy", "numpy")


@pytest.mark.slow
def test_adapters_in_the_other_formats(adapters, tmp_path):
    pytest.importorskip("onnx")
    features = torch.randn(5, E)
    adapters.save_pretrained(tmp_path / "onnx", "onnx")
    torch.testing.assert_close(by_onnx(tmp_path / "onnx", features), expected(adapters, features), **CLOSE)
    adapters.save_pretrained(tmp_path / "state", sample=0)
    network = adapters.pipeline.network.with_weights(adapters.weights[0, 1])
    network.load_state_dict(load_file(tmp_path / "state/model.safetensors"))
    answers = adapters.classifier().answer_embeds
    torch.testing.assert_close(network(features, answers), adapters.classifier(0, 0)(features), **CLOSE)
    with pytest.raises(InputError, match="no lines of NumPy for PeftModel: write format='onnx'"):
        adapters.save_pretrained(tmp_path / "numpy", "numpy")


@pytest.fixture(scope="module", params=[True, False], ids=["stored statistics", "batch statistics"])
def cnn(request):
    """A CNN that a HyperTransformer wrote."""
    torch.manual_seed(0)
    writer = HyperTransformer(ConvNet(4, num_classes=3, image_size=20, depth=3), embed_dim=8, layers=1)
    support = Examples(torch.randn(6, 1, 20, 20), torch.arange(6) % 3)
    return writer.export(support, stored_statistics=request.param)


@pytest.mark.parametrize("format", ["state_dict", "numpy", pytest.param("onnx", marks=pytest.mark.slow)])
def test_the_network_of_a_hypertransformer(cnn, format, tmp_path):
    if format == "onnx":
        pytest.importorskip("onnx")
    images = torch.randn(5, 1, 20, 20)
    export_network(cnn, tmp_path / "cnn", format, (1, 20, 20), about={"answers": ["a", "b", "c"]})
    with torch.no_grad():
        wanted = cnn(images).softmax(dim=-1)
    if format == "state_dict":
        found = ConvNet.from_pretrained(tmp_path / "cnn")(images).softmax(dim=-1)
    else:
        found = {"onnx": by_onnx, "numpy": by_numpy}[format](tmp_path / "cnn", images)
    torch.testing.assert_close(found, wanted, **CLOSE)


@pytest.mark.parametrize(
    ("network", "dim"),
    [
        (CLIPAdapter(6, 3, ntk=False, bias=False, normalize_inputs=False, logit_scale=4.0), 6),
        (TokenAdapter(6 + 4 * 5, grid=2, token_dim=5, queries=2, hidden_dim=3, logit_scale=4.0), 26),
    ],
)
def test_other_adapters_in_numpy(network, dim, tmp_path):
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_()
    answers, features = torch.randn(3, 6), torch.randn(7, dim)
    export_network(network, tmp_path / "n", "numpy", (dim,), context={"answers": answers})
    wanted = network(features, answers).softmax(dim=-1).detach()
    torch.testing.assert_close(by_numpy(tmp_path / "n", features), wanted, **CLOSE)


@pytest.mark.slow
def test_outputs_that_are_no_probabilities(tmp_path):
    pytest.importorskip("onnx")
    network = MLP(2, [4], 3, activation="tanh")
    export_network(network, tmp_path / "m", "onnx", (2,), probabilities=False)
    points = torch.randn(5, 2)
    torch.testing.assert_close(by_onnx(tmp_path / "m", points), network(points).detach(), **CLOSE)


def test_the_command_writes_every_format(pipe, out, tmp_path, capsys):
    pipe.save_pretrained(tmp_path / "pipe")
    words = [
        "sample",
        STAR,
        "--model",
        str(tmp_path / "pipe"),
        "--answers",
        ",".join(COLORS),
        "--num-samples",
        "2",
    ]
    words += ["--guidance-scale", "1", "--seed", "3", "--format"]
    main([*words, "numpy", "--output", str(tmp_path / "numpy")])
    features = torch.randn(4, E)
    torch.testing.assert_close(by_numpy(tmp_path / "numpy", features), expected(out, features), **CLOSE)
    for more, message in {
        ("peft", "--output", str(tmp_path / "p")): "CLIPAdapter has no low-rank adapters",
        ("numpy", "--output", str(tmp_path / "numpy")): "exists already",
        ("numpy", "--output", str(tmp_path / "n"), "--image-tower"): "--image-tower needs --format onnx",
        ("tflite", "--output", str(tmp_path / "t")): "invalid choice: 'tflite'",
    }.items():
        with pytest.raises(SystemExit):
            main([*words, *more])
        assert message in capsys.readouterr().err
    assert not (tmp_path / "p").exists()


class Counting(nn.Module):
    """Its result depends on a value, so that a trace of it would be wrong."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, inputs):
        return self.layer(inputs) if float(inputs.sum()) > 0 else self.layer(-inputs)


def test_wrong_exports_are_one_line(out, tmp_path, capfd):
    with pytest.raises(InputError, match="format must be one of state_dict, peft, onnx, numpy, got 'tflite'"):
        out.save_pretrained(tmp_path / "x", "tflite")
    with pytest.raises(InputError, match="samples 0 to 1, got sample=2"):
        out.save_pretrained(tmp_path / "x", sample=2)
    with pytest.raises(InputError, match="image tower needs format='onnx'"):
        out.save_pretrained(tmp_path / "x", "numpy", image_tower=True)
    with pytest.raises(InputError, match="no lines of NumPy for MLP"):
        export_network(MLP(2, [4], 3), tmp_path / "x", "numpy", (2,))
    pytest.importorskip("onnx")
    with pytest.raises(InputError, match="ONNX cannot express Counting: ") as told:
        export_network(Counting(), tmp_path / "x", "onnx", (4,))
    assert "\n" not in str(told.value) and not list(tmp_path.iterdir())
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("format", ["state_dict", "numpy", "onnx"])
def test_a_full_disk(out, tmp_path, format):
    """No file may grow beyond a limit: one line, and nothing is left."""

    def export():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))
        try:
            out.save_pretrained(tmp_path / "out", format)
        except InputError as error:
            raise SystemExit(3 if len(str(error).splitlines()) == 1 else 4) from None

    assert end(start(export)) == 3
    assert [*tmp_path.iterdir()] == []
