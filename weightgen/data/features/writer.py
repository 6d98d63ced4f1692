"""Making a feature store shard by shard, by one process or several, over as many runs as it takes.

Under construction the store is `<name>.partial`; every finished shard stays there when a run is killed. The
index is written last, and only then does the folder get its name: an unfinished store is never taken for a
whole one.

A shard holds the embeddings of a fixed range of names, and no batch crosses shards. So the bytes of the store
do not depend on which process computes which shard, nor in how many runs.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from weightgen.data.features.store import FORMAT, KINDS, partial_folder, shard_names
from weightgen.errors import InputError
from weightgen.protocols import Encoder
from weightgen.storage.files import StrPath, read_json, read_object, write_json, write_tensors, written_beside

__all__ = ["FeaturePlan", "FeatureWriter"]

DTYPES = {"half": torch.float16, "single": torch.float32}


# The names of all that a run writes.
_OWN = re.compile(
    r"(plan|index|failed)\.json|encoder|(images|questions|answers)-\d+(\.safetensors|\.failed\.json)|\..*\.(partial|mode|old)"
)


@dataclass(frozen=True)
class FeaturePlan:
    """What is to be embedded, by what, and how it is cut into shards.

    Args:
        encoder: identifies the encoder and its weights.
        images: the names of the images.
        questions: the texts of the questions.
        answers: the texts of the answers, in their templates.
        dtype: `half` or `single`, the type on disk.
        batch_size: names that are embedded together.
        shard_size: names in a shard.

    Raises:
        InputError: an unknown type, or a size below 1.
    """

    encoder: str
    images: Sequence[str] = field(repr=False)
    questions: Sequence[str] = field(repr=False)
    answers: Sequence[str] = field(repr=False)
    dtype: str = "half"
    batch_size: int = 64
    shard_size: int = 4096

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise InputError(f"unknown dtype {self.dtype!r}: choose one of {', '.join(DTYPES)}")
        for name in ("batch_size", "shard_size"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")

    def shards(self, kind: str) -> list[Sequence[str]]:
        """The names of each shard of a kind."""
        names = getattr(self, kind)
        return [names[start : start + self.shard_size] for start in range(0, len(names), self.shard_size)]

    def settings(self) -> dict[str, Any]:
        """All of the plan, with digests in place of the names."""
        names = {kind: json.dumps(list(getattr(self, kind))).encode() for kind in KINDS}
        return {**asdict(self), **{kind: hashlib.sha256(names[kind]).hexdigest() for kind in KINDS}}

    def megabytes(self, encoder: Encoder) -> float:
        """What the embeddings take on disk, in MB."""
        numbers = len(self.images) * encoder.image_dim + len(self.questions) * encoder.question_dim
        return (numbers + len(self.answers) * encoder.text_dim) * DTYPES[self.dtype].itemsize / 1e6


class FeatureWriter:
    """The store that a plan describes, in the making.

    Args:
        folder: the folder that the finished store shall be.
        plan: what goes into it.
        overwrite: whether a finished store of another plan is replaced.
    """

    def __init__(self, folder: StrPath, plan: FeaturePlan, overwrite: bool = False) -> None:
        self.folder = Path(folder)
        self.plan = plan
        self.overwrite = overwrite
        self.partial = partial_folder(folder)

    def begin(self) -> bool:
        """Make the folder for the shards, or go on with the one that is there.

        Returns:
            Whether there is anything to do: False if the finished store of this very plan is there.

        Raises:
            InputError: what is there, finished or unfinished, was made by another plan.
        """
        _check_own(self.folder, self.partial)
        if self.folder.exists() and not self.overwrite:
            self._compare(self.folder, "choose another name, or overwrite=true")
            return False
        if (self.partial / "plan.json").exists():
            self._compare(self.partial, "remove it, or go on with its settings")
        else:
            write_json(self.partial / "plan.json", self.plan.settings())
        for path in self.partial.glob("*.failed.json"):
            path.unlink()
        return True

    def _compare(self, folder: Path, remedy: str) -> None:
        found, ours = read_object(folder / "plan.json"), self.plan.settings()
        other = ", ".join(f"{key} {str(found.get(key))[:40]}" for key in ours if found.get(key) != ours[key])
        if other:
            raise InputError(f"{folder} was made with other settings ({other}): {remedy}")

    def path(self, kind: str, number: int) -> Path:
        """The file of one shard."""
        return self.partial / f"{kind}-{number:05d}.safetensors"

    def is_done(self, kind: str, number: int) -> bool:
        """Whether a shard is finished."""
        path = self.path(kind, number)
        if not path.exists():
            return False
        try:
            names, failed = shard_names(path)
        except InputError:  # damaged after it was written: make it again
            return False
        return names == [name for name in self.plan.shards(kind)[number] if name not in failed]

    def unfinished(self) -> list[tuple[str, int]]:
        """All shards still to be made, as kinds and numbers, the texts first."""
        every = [(kind, number) for kind in reversed(KINDS) for number in range(len(self.plan.shards(kind)))]
        return [shard for shard in every if not self.is_done(*shard)]

    def write(self, kind: str, number: int, embeds: Tensor, failed: Mapping[str, str] | None = None) -> None:
        """Write one shard, whole or not at all.

        Args:
            kind: `images`, `questions` or `answers`.
            number: which shard.
            embeds: the embeddings (N, E) of the shard's names without those that failed.
            failed: names that could not be read, with the reason.

        Raises:
            InputError: an embedding is not finite in the type of the store.
        """
        names = [name for name in self.plan.shards(kind)[number] if name not in (failed or {})]
        embeds = embeds.cpu().to(DTYPES[self.plan.dtype])
        broken = (~torch.isfinite(embeds).all(dim=1)).nonzero().flatten().tolist()
        if broken:
            raise InputError(
                f"the embedding of {names[broken[0]]!r} is not finite in {self.plan.dtype} precision: "
                "use precision=fp32 and dtype=single"
            )
        # One entry, because safetensors writes several in no fixed order.
        metadata = {"shard": json.dumps({"names": names, "failed": dict(failed or {})})}
        write_tensors(self.path(kind, number), {"embeds": embeds}, metadata)

    def fail(self, kind: str, number: int, failed: Mapping[str, str]) -> None:
        """Note that a shard was not written, because names of it could not be read.

        Args:
            kind: `images`, `questions` or `answers`.
            number: which shard.
            failed: the names, with the reasons.
        """
        write_json(self.path(kind, number).with_suffix(".failed.json"), dict(failed))

    def failures(self) -> dict[str, str]:
        """All names noted by `fail` in this run, with the reasons."""
        return {
            k: v for path in sorted(self.partial.glob("*.failed.json")) for k, v in read_json(path).items()
        }

    def refuse(self, failed: Mapping[str, str]) -> NoReturn:
        """Stop because of images that cannot be read, and list them in a file.

        Args:
            failed: their names, with the reasons.

        Raises:
            InputError: always, saying how many are missing, how many are broken, and what to do.
        """
        missing = sum(reason == "missing" for reason in failed.values())
        path = self.partial / "failed.json"
        write_json(path, dict(failed))
        name, reason = min(failed.items())
        whole = len(failed) == len(self.plan.images)
        remedy = "look at the folder of images given" if whole else "leave them out with on_error=skip"
        raise InputError(
            f"of {len(self.plan.images)} images {missing} are missing and {len(failed) - missing} broken, "
            f"for example {name} ({reason}); all are listed in {path}. "
            f"Put them in place, or {remedy}"
        )

    def finish(self, facts: Mapping[str, Any], encoder: Encoder | None = None) -> dict[str, str]:
        """Write the index and give the folder its name.

        Args:
            facts: further JSON for the index.
            encoder: is saved beside the features, so that `FeatureStore.load_encoder` gets it again.

        Returns:
            The names that were left out because they could not be read, with the reasons.

        Raises:
            InputError: a shard is missing, or not one image could be read.
        """
        shards: dict[str, list[str]] = {kind: [] for kind in KINDS}
        failed: dict[str, str] = {}
        for kind in KINDS:
            for number in range(len(self.plan.shards(kind))):
                if not self.is_done(kind, number):
                    raise InputError(f"{self.path(kind, number)} is missing: run the same command again")
                failed |= shard_names(self.path(kind, number))[1]
                shards[kind].append(self.path(kind, number).name)
        if failed and len(failed) == len(self.plan.images):
            self.refuse(failed)
        for (
            path
        ) in self.partial.iterdir():  # of killed runs; `_check_own` has seen that nothing else is there
            if path.name not in ["plan.json", *sum(shards.values(), [])]:
                _remove(path)
        if encoder is not None:
            encoder.save_pretrained(self.partial / "encoder")
        index = {"format": FORMAT, **facts, "shards": shards, "failed": failed}
        write_json(self.partial / "index.json", index)
        if self.folder.exists():
            with written_beside(self.folder, self.overwrite) as beside:
                self.partial.rename(beside)
        else:
            self.partial.rename(self.folder)
        return failed


def _check_own(folder: Path, partial: Path) -> None:
    """Refuse links, and folders with files that no run of this writer made: they would be removed."""
    for path in (folder, partial):
        if path.is_symlink():
            raise InputError(f"{path} is a link: remove it, or choose another name")
    for path in partial.iterdir() if partial.is_dir() else []:
        if path.is_symlink() or not _OWN.fullmatch(path.name):
            raise InputError(f"{path} was not made by this recipe: move it elsewhere, or choose another name")
    if folder.exists() and not (folder / "plan.json").is_file():
        raise InputError(f"{folder} exists already, and holds no features: choose another name")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
