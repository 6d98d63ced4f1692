"""Shipping a data set and a pipeline, and using what came with the package; wrong use before any long work."""

import importlib.util
import shutil
import sys

import pytest
import torch

from tests.recipes.small import save_data
from tests.tiny import tiny_pipeline
from tests.towers import tiny_paired
from weightgen import InputError, WeightPipeline
from weightgen.data import load_tasks
from weightgen.data.photos.shipped import DATASET, FEATURES, MODEL, unpack
from weightgen.pipelines.familiarity import Familiarity
from weightgen.storage import shipped as shipped_models
from weightgen.storage.files import read_json, read_tensors, write_json, write_tensors


@pytest.fixture
def shipping(root, tmp_path, monkeypatch):
    """data/photos/ship.py, which writes into the test's folder in place of the package."""
    spec = importlib.util.spec_from_file_location("ship", root / "data/photos/ship.py")
    ship = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(ship)
    monkeypatch.setattr(ship, "DATASET", tmp_path / "package/dataset")
    monkeypatch.setattr(ship, "MODEL", tmp_path / "package/photos")
    monkeypatch.setattr(shipped_models, "SHIPPED", tmp_path / "package")
    return ship


def halved(folder):
    """Features in half precision, as the shipped ones are."""
    for path in folder.glob("*.safetensors"):
        names = {"shard": path_metadata(path)}
        write_tensors(path, {"embeds": read_tensors(path)["embeds"].half()}, names)
    write_json(folder / "plan.json", {**read_json(folder / "plan.json"), "dtype": "half"})


def path_metadata(path):
    from weightgen.storage.files import read_metadata

    return read_metadata(path)["shard"]


def test_what_is_shipped_works_as_before_and_is_smaller(shipping, tmp_path, monkeypatch, capsys):
    pipe = tiny_pipeline(tmp_path)
    questions = pipe.encoder.encode_questions(["what color?", "what color is it?", "what shape?"])
    pipe.familiarity = Familiarity.fitted(questions, ["c", "c", "s"])
    pipe.save_pretrained(tmp_path / "pipeline")
    data = save_data(tmp_path / "data", clip=tmp_path / "clip", tasks=3)
    words = [
        "ship.py",
        "--dataset",
        str(data),
        "--pipeline",
        str(tmp_path / "pipeline"),
        "--report",
        str(tmp_path / "r.md"),
    ]
    (tmp_path / "r.md").write_text("| scores |")
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit):
        shipping.main()
    assert "not in half precision" in capsys.readouterr().err and not (tmp_path / "package").exists()

    halved(data / "features/clip")
    shutil.move(data / "features/clip", data / FEATURES)
    shipping.main()
    before, after, size = load_tasks(data, "test")[0], load_tasks(tmp_path / "package/dataset", "test")[0], {}
    assert (
        torch.equal(before.batch().query.inputs, after.batch().query.inputs)
        and after.answers == before.answers
    )
    assert (
        after.batch().query.inputs.dtype == torch.float32
    )  # as the networks take it, though the store is in half
    assert not (tmp_path / "package/dataset" / FEATURES / "encoder").exists()
    assert "| scores |" in (tmp_path / "package/photos/README.md").read_text()

    shipped, how = WeightPipeline.from_pretrained("photos"), {"generator": torch.Generator().manual_seed(0)}
    found = shipped("what color is it?", ["red", "green"], **how)
    whole = pipe("what color is it?", ["red", "green"], generator=torch.Generator().manual_seed(0))
    assert torch.allclose(found.weights, whole.weights, atol=0.02 * whole.weights.abs().max())
    assert torch.allclose(found.familiarity, whole.familiarity, atol=1e-3)
    for name, place in (("shipped", "package/photos"), ("whole", "pipeline")):
        files = [
            path
            for part in ("hypernet", "prior")
            for path in (tmp_path / place / part).rglob("*.safetensors")
        ]
        size[name] = sum(path.stat().st_size for path in files)
    assert size["shipped"] < 0.6 * size["whole"]


@pytest.fixture
def package(tmp_path):
    """A shipped data set whose encoder is a pair of tiny towers."""
    encoder = tiny_paired(tmp_path / "towers")
    encoder.save_pretrained(tmp_path / "model/encoder")
    data = save_data(tmp_path / "data", encoder=encoder.digest)
    shutil.move(data / "features/clip", data / FEATURES)
    return data, tmp_path / "model"


def test_unpacking_gives_a_data_set_to_train_on(package, tmp_path):
    unpack(tmp_path / "out", *package)
    (tasks,) = load_tasks(tmp_path / "out/dataset", "train")
    assert tasks.store.load_encoder().digest == tasks.store.encoder_digest
    with pytest.raises(InputError, match="exists already"):
        unpack(tmp_path / "out", *package)


def test_a_missing_file_a_missing_tower_and_another_digest_are_one_line(package, tmp_path):
    data, model = package
    with pytest.raises(InputError, match="the package lacks"):
        unpack(tmp_path / "out", data, tmp_path / "nothing")
    record = read_json(model / "encoder/encoder.json")
    named = {**record["image_tower"], "model": "no_such_tower"}
    del named["folder"]
    write_json(model / "encoder/encoder.json", {**record, "image_tower": named})
    with pytest.raises(InputError, match="no_such_tower"):
        unpack(tmp_path / "out", data, model)
    other = {**record["text_tower"], "digest": "0" * 64}
    write_json(model / "encoder/encoder.json", {**record, "text_tower": other})
    with pytest.raises(InputError, match="digest is 000000000000"):
        unpack(tmp_path / "out", data, model)
    write_json(model / "encoder/encoder.json", record)
    plan = read_json(data / FEATURES / "plan.json")
    write_json(data / FEATURES / "plan.json", {**plan, "encoder": "another"})
    with pytest.raises(InputError, match="was made with another encoder"):
        unpack(tmp_path / "out", data, model)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not MODEL.is_dir(), reason="nothing is shipped yet")
def test_the_package_has_the_pipeline_of_its_features():
    record = read_json(MODEL / "pipeline.json")
    assert read_json(DATASET / FEATURES / "plan.json")["encoder"].split()[0] == record["encoder"]["digest"]
    assert not [
        path
        for path in DATASET.rglob("*")
        if path.suffix in (".png", ".jpg", ".zip") and path.stem != "histogram"
    ]
    (tasks,) = load_tasks(DATASET, "validation")
    assert len(tasks) > 100 and (MODEL / "README.md").is_file()
