"""Trained networks of others become a zoo, or one line says why not."""

import json

import pytest
import torch
from safetensors.torch import load_file

from weightgen.cli import main
from weightgen.data.zoo import Zoo
from weightgen.data.zoo.importing import import_zoo
from weightgen.data.zoo.tasks import zoo_tasks
from weightgen.errors import InputError
from weightgen.storage.files import write_json, write_tensors

CONFIG = {
    "peft_type": "LORA",
    "r": 2,
    "lora_alpha": 4,
    "target_modules": ["q", "v"],
    "base_model_name_or_path": "clip",
}


def network(**layers):
    return {"a.weight": torch.randn(3, 2), "a.bias": torch.randn(3), **layers}


@pytest.fixture
def folder(tmp_path):
    """Four networks of two tasks, in a folder for each task."""
    torch.manual_seed(0)
    for name in ("cats/seed0", "cats/seed1", "dogs/seed0", "birds"):
        write_tensors(tmp_path / f"nets/{name}.safetensors", network())
    rows = [
        ("cats", "about cats", "train"),
        ("dogs/seed0", "about dogs", ""),
        ("birds.safetensors", "about birds", "validation"),
    ]
    (tmp_path / "texts.csv").write_text("name,text,split\n" + "\n".join(",".join(row) for row in rows))
    lines = [json.dumps({"name": name, "text": text}) for name, text, _ in rows]
    (tmp_path / "texts.jsonl").write_text("\n".join(lines))
    return tmp_path


@pytest.fixture
def adapters(tmp_path):
    """Three adapters, with cards."""
    torch.manual_seed(0)
    for number in range(3):
        write_tensors(tmp_path / f"nets/l{number}/adapter_model.safetensors", network())
        config = {**CONFIG, "target_modules": ["v", "q"]} if number else CONFIG
        write_json(tmp_path / f"nets/l{number}/adapter_config.json", config)
        (tmp_path / f"nets/l{number}/README.md").write_text(
            f"---\ndescription: adapter {number}\n---\n# Card\n"
        )
    return tmp_path


def test_state_dictionaries(folder, capsys):
    words = ["zoo", "import", str(folder / "nets"), "--output", str(folder / "zoo")]
    main([*words, "--descriptions", str(folder / "texts.csv")])
    assert "4 networks with 9 weights: 3 tasks, 1 to 2 of each" in capsys.readouterr().out
    zoo = Zoo.load(folder / "zoo")
    assert [name for name, _ in zoo.space.shapes] == ["a.bias", "a.weight"]
    texts = {task["text"]: (number, task) for number, task in enumerate(zoo.tasks())}
    number, task = texts["about cats"]
    assert task["names"] == ["cats/seed0", "cats/seed1"] and zoo.counts[number] == 2
    for draw in range(2):
        weights = zoo.at(torch.tensor([draw]), torch.tensor([number]))
        expected = load_file(folder / f"nets/cats/seed{draw}.safetensors")
        assert all(
            torch.equal(value[0], expected[name]) for name, value in zoo.space.unflatten(weights).items()
        )
    assert texts["about birds"][1]["split"] == "validation" and texts["about dogs"][1]["split"] == "train"
    main(["info", str(folder / "zoo")])
    out = capsys.readouterr().out
    assert "layer a.weight 3x2" in out and "1 validation, 2 train" in out and "- about cats" in out
    train, validation, test = zoo_tasks(zoo, "train", "validation", "test")
    assert sorted(train.questions) == ["about cats", "about dogs"]
    assert validation.questions == test.questions == ["about birds"]
    assert train.zoo.shape == (2, 2, 9) and torch.equal(validation.zoo.whole(), zoo.whole()[:1, :1])


def test_half_precision(folder):
    zoo = import_zoo(folder / "nets", folder / "zoo", folder / "texts.jsonl", "float16")
    assert zoo.index.dtype == "float16"
    train, validation = zoo_tasks(zoo, "train", "validation")  # none is named for validation: one is taken
    assert len(train) == 2 and len(validation) == 1 and not set(train.questions) & set(validation.questions)


def test_adapters(adapters):
    zoo = import_zoo(adapters / "nets", adapters / "zoo")
    assert [task["text"] for task in zoo.tasks()] == [f"adapter {number}" for number in range(3)]
    assert zoo.index.facts["adapter_config"] == CONFIG


def tensors(path, **layers):
    def change(folder):
        (folder / path).unlink()
        write_tensors(folder / path, {k: v for k, v in network(**layers).items() if v is not None})

    return change


def text(path, content):
    return lambda folder: (folder / path).write_text(content)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (tensors("nets/birds.safetensors", c=torch.ones(1)), "'birds' has a layer 'c', and .* has not"),
        (tensors("nets/birds.safetensors", **{"a.bias": None}), "'cats/seed0' has a layer 'a.bias', and 'birds' has not|'a.bias'"),
        (tensors("nets/dogs/seed0.safetensors", **{"a.bias": torch.ones(4)}), r"shape \(3,\) in 'birds' and \(4,\) in 'dogs/seed0'"),
        (tensors("nets/dogs/seed0.safetensors", **{"a.bias": torch.ones(3).half()}), "'a.bias' has dtype torch.float32 in 'birds'"),
        (tensors("nets/birds.safetensors", **{"a.bias": torch.full((3,), torch.nan)}), "NaN or infinite numbers in 'a.bias'"),
        (tensors("nets/birds.safetensors", n=torch.ones(1).long()), "integers in 'n'"),
        (tensors("nets/birds.safetensors", **{"b.running_mean": torch.ones(1)}), "running statistics"),
        (text("nets/birds.safetensors", "x"), "truncated or not a safetensors file"),
        (text("texts.csv", "name,text\ncats,a\ndogs,b\n"), "'birds' has weights, but no description"),
        (text("texts.csv", "name,text\ncats,a\ndogs,b\nbirds,c\nfish,d\n"), "'fish' is described, but there are no weights"),
        (text("texts.csv", "name,text\ncats,a\ncats,b\n"), "described twice"),
        (text("texts.csv", "name,text\n"), "describes nothing"),
        (text("texts.csv", "file,words\nx,y\n"), "has no name"),
        (text("texts.csv", "name,text,split\ncats,a,dev\n"), "split of train, validation, test"),
        (text("texts.csv", "name,text,split\ncats,a,train\ndogs,a,test\nbirds,b,train"), "in two splits"),
    ],
)  # fmt: skip
def test_wrong_state_dictionaries(folder, change, reason):
    change(folder)
    with pytest.raises(InputError, match=reason):
        import_zoo(folder / "nets", folder / "zoo", folder / "texts.csv")
    assert {path.name for path in folder.iterdir()} == {"nets", "texts.csv", "texts.jsonl"}  # nothing is left


@pytest.mark.parametrize("content", ["[1]", "nonsense", '{"name": "x"}', '{"name": 3, "text": "y"}'])
def test_wrong_lines(folder, content):
    (folder / "texts.jsonl").write_text(content)
    with pytest.raises(InputError, match="row 1|cannot read the descriptions"):
        import_zoo(folder / "nets", folder / "zoo", folder / "texts.jsonl")


def test_wrong_folders(folder):
    with pytest.raises(InputError, match="no folder"):
        import_zoo(folder / "none", folder / "zoo", folder / "texts.csv")
    (folder / "one").mkdir()
    with pytest.raises(InputError, match="no networks"):
        import_zoo(folder / "one", folder / "zoo", folder / "texts.csv")
    write_tensors(folder / "one/x.safetensors", network())
    with pytest.raises(InputError, match="one network: a zoo needs at least two"):
        import_zoo(folder / "one", folder / "zoo", folder / "texts.csv")
    with pytest.raises(InputError, match="--descriptions FILE"):
        import_zoo(folder / "nets", folder / "zoo")
    with pytest.raises(InputError, match=r"named \.jsonl or \.csv"):
        import_zoo(folder / "nets", folder / "zoo", folder / "nets/birds.safetensors")
    with pytest.raises(InputError, match="exists already"):
        import_zoo(folder / "nets", folder / "nets", folder / "texts.csv")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"r": 4}, "the adapters differ in r: 'l0' has 2, 'l1' has 4"),
        ({"base_model_name_or_path": "bert"}, "differ in base_model_name_or_path"),
        ({"target_modules": ["q"]}, "differ in target_modules"),
        ({"auto_map": {"AutoModel": "code.Model"}}, "asks for code, by auto_map"),
        (
            {"auto_mapping": {"base_model_class": "Net", "parent_library": "evil.code"}},
            "asks for the code of 'evil.code'",
        ),
    ],
)
def test_wrong_adapters(adapters, change, reason):
    write_json(adapters / "nets/l1/adapter_config.json", CONFIG | change)
    with pytest.raises(InputError, match=reason):
        import_zoo(adapters / "nets", adapters / "zoo")


def test_adapters_of_another_rank_than_they_say(adapters):
    write_tensors(adapters / "nets/l1/adapter_model.safetensors", {**network(), "a.weight": torch.ones(6, 2)})
    with pytest.raises(InputError, match="'a.weight' has shape \\(3, 2\\) in 'l0' and \\(6, 2\\) in 'l1'"):
        import_zoo(adapters / "nets", adapters / "zoo")


def test_adapters_that_bring_code(adapters):
    library = {"base_model_class": "CLIPModel", "parent_library": "transformers.models.clip"}
    write_json(adapters / "nets/l1/adapter_config.json", {**CONFIG, "auto_mapping": library})
    import_zoo(adapters / "nets", adapters / "zoo")  # PEFT writes this by itself
    (adapters / "nets/l1/model.py").write_text("raise SystemExit")
    with pytest.raises(InputError, match=r"brings code, model\.py"):
        import_zoo(adapters / "nets", adapters / "second")
    import_zoo(adapters / "nets", adapters / "third", trust_remote_code=True)
    (adapters / "nets/l2/adapter_model.safetensors").rename(adapters / "nets/l2/adapter_model.bin")
    with pytest.raises(InputError, match="is a pickle, which may run code"):
        import_zoo(adapters / "nets", adapters / "fourth", trust_remote_code=True)
    (adapters / "nets/l0/README.md").write_text("# Card\n")
    with pytest.raises(InputError, match="has no adapter_model"):
        import_zoo(adapters / "nets", adapters / "fifth", trust_remote_code=True)


def test_cards_without_a_description(adapters):
    (adapters / "nets/l0/README.md").write_text("# Card\n")
    with pytest.raises(InputError, match="write a line 'description: ...' in its README.md"):
        import_zoo(adapters / "nets", adapters / "zoo")


def test_aligned_networks(tmp_path, capsys):
    """Five networks that compute the same: aligned, they are the same."""
    torch.manual_seed(0)
    first, bias, second = torch.randn(6, 3), torch.randn(6), torch.randn(2, 6)
    for number in range(5):
        order = torch.randperm(6) if number else torch.arange(6)
        layers = {"0.weight": first[order], "0.bias": bias[order], "2.weight": second[:, order]}
        write_tensors(
            tmp_path / f"nets/n{number}.safetensors", {k: v.contiguous() for k, v in layers.items()}
        )
    (tmp_path / "texts.csv").write_text("name,text\n" + "\n".join(f"n{i},text {i}" for i in range(5)))
    words = [
        "zoo",
        "import",
        str(tmp_path / "nets"),
        "--descriptions",
        str(tmp_path / "texts.csv"),
        "--align",
    ]
    main([*words, "--output", str(tmp_path / "zoo")])
    out = capsys.readouterr().out
    assert "alignment, aligned: 2 layers of a chain" in out and "alignment, nothing done for: []" in out
    facts = Zoo.load(tmp_path / "zoo").index.facts["alignment"]
    assert facts["difference_of_weights"]["before"] > 0.5 > 0 == facts["difference_of_weights"]["after"]
    whole = Zoo.load(tmp_path / "zoo").whole()[0]
    assert torch.equal(whole, whole[:1].expand_as(whole))


def test_aligned_adapters(tmp_path):
    torch.manual_seed(0)
    a, b = torch.randn(2, 8), torch.randn(6, 2)
    for number in range(3):
        mix = torch.randn(2, 2) + 2 * torch.eye(2) if number else torch.eye(2)
        layers = {"q.lora_A.weight": mix @ a, "q.lora_B.weight": b @ mix.inverse(), "v.bias": torch.randn(3)}
        write_tensors(tmp_path / f"nets/l{number}/adapter_model.safetensors", layers)
        write_json(tmp_path / f"nets/l{number}/adapter_config.json", CONFIG)
        (tmp_path / f"nets/l{number}/README.md").write_text(f"Description: adapter {number}\n")
    zoo = import_zoo(tmp_path / "nets", tmp_path / "zoo", aligned=True)
    facts = zoo.index.facts["alignment"]
    assert facts["difference_of_products_halfway"]["before"] > 0.05
    assert facts["difference_of_products_halfway"]["after"] < 1e-3
    assert facts["nothing_done_for"] == ["v.bias"]
    for weights in zoo.whole()[0]:
        params = zoo.space.unflatten(weights)
        torch.testing.assert_close(
            params["q.lora_B.weight"] @ params["q.lora_A.weight"], b @ a, atol=1e-3, rtol=1e-3
        )
