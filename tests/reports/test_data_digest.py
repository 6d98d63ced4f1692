"""The digest that tells one data set from another, and ignores how its features were computed."""

from tests.recipes.small import save_data
from weightgen.reports.splits import dataset_digest
from weightgen.storage.files import read_json, write_json


def test_a_data_set_stays_itself_when_its_features_are_computed_in_other_batches(tmp_path):
    folder = save_data(tmp_path / "data")
    before, plan = dataset_digest(str(folder)), folder / "features/clip/plan.json"
    write_json(plan, read_json(plan) | {"batch_size": 7, "shard_size": 5})
    assert dataset_digest(str(folder)) == before
    write_json(plan, read_json(plan) | {"dtype": "half"})
    assert dataset_digest(str(folder)) != before


def test_other_encoders_and_other_names_make_another_data_set(tmp_path):
    one = dataset_digest(str(save_data(tmp_path / "one")))
    assert dataset_digest(str(save_data(tmp_path / "two", encoder="b"))) != one
    assert dataset_digest(str(save_data(tmp_path / "three", tasks=3))) != one
