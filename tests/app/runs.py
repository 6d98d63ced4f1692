"""The output folder of a training run of a HyperTransformer that has learned nothing."""

from weightgen.hypernets import HyperTransformer
from weightgen.networks import ConvNet
from weightgen.storage.files import write_json


def untrained_run(folder, **network):
    """Make the folder with what the page reads, and return its path as a text."""
    HyperTransformer(ConvNet(4, 5, **network), layers=1).save_pretrained(folder / "hypernet")
    write_json(folder / "training.json", {"settings": {"mean": 0.0, "std": 64.0}})
    return str(folder)
