"""Where a CLIP comes from: a name and a tag of open_clip, or a folder in one of two formats."""

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from weightgen.encoders import clip_folder, clip_named, clip_transformers
from weightgen.encoders.clip_named import is_named
from weightgen.encoders.clip_towers import Towers
from weightgen.errors import InputError
from weightgen.storage.files import StrPath, kind_of


@dataclass(frozen=True)
class ClipSource:
    """How to get the weights of a CLIP.

    Args:
        model: a name that open_clip knows, or a folder.
        pretrained: the tag of a name's weights.
        random_weights: whether a named model is untrained.

    Raises:
        InputError: a folder with a tag, which has weights of its own.
    """

    model: str
    pretrained: str | None = None
    random_weights: bool = False

    def __post_init__(self) -> None:
        if self.is_folder and (self.pretrained or self.random_weights):
            raise InputError(
                f"{self.model} is a folder with weights of its own: leave pretrained and random_weights out"
            )

    @property
    def folder(self) -> Path:
        """The folder, if it is one."""
        return Path(self.model).expanduser()

    @property
    def is_folder(self) -> bool:
        """Whether `model` is a folder."""
        return kind_of(self.folder) == "folder"

    @property
    def label(self) -> str:
        """What to call it."""
        if self.is_folder:
            return self.folder.resolve().name
        return f"{self.model} {self.pretrained or 'random'}"

    def read(self) -> Towers:
        """Make the towers.

        Raises:
            InputError: an unknown name or tag, weights that cannot be downloaded, or a damaged folder.
        """
        if not self.is_folder:
            return clip_named.load(self.model, self.pretrained, self.random_weights)
        if (self.folder / "open_clip_config.json").is_file():
            return clip_folder.load(self.folder)
        if (self.folder / "config.json").is_file():
            return clip_transformers.load(self.folder)
        raise InputError(
            f"{self.folder} holds no CLIP: expected open_clip_config.json with open_clip_model.safetensors, "
            "or a transformers CLIP's config.json with model.safetensors"
        )

    def save(self, folder: StrPath) -> dict[str, Any]:
        """Copy what is needed into `folder`, and return what `restore` takes, without any absolute path."""
        if not self.is_folder:
            return asdict(self)
        target = Path(folder) / "clip"
        shutil.copytree(self.folder, target)
        if (target / "open_clip_config.json").is_file():
            clip_folder.make_relocatable(target)
        return asdict(ClipSource("clip"))

    @classmethod
    def restore(cls, record: dict[str, Any], folder: StrPath) -> "ClipSource":
        """The source that `save` recorded; a folder's name is meant relative to `folder`."""
        name = record["model"]
        if not isinstance(name, str):
            raise TypeError(f"its CLIP has the name {name!r:.40}")
        inside = Path(folder) / name
        if name == "clip" and inside.is_dir():
            if (inside / "open_clip_config.json").is_file():
                clip_folder.check_inside_folder(inside)
            return cls(str(inside))
        if name != "clip" and not is_named(name):
            raise InputError(
                f"{folder} names the CLIP {name!r:.80}: expected clip, or a name that open_clip knows"
            )
        if name == "clip":
            raise InputError(f"{folder} lacks the folder clip with the weights of its CLIP")
        return cls(**record)
