"""A zoo: many weight vectors of one network on disk, with the task of each; written as they come, read in batches."""

from weightgen.data.zoo.reader import Zoo, ZooRows
from weightgen.data.zoo.writer import ZooWriter, save_zoo

__all__ = ["Zoo", "ZooRows", "ZooWriter", "save_zoo"]
