"""Embeddings on disk, by name: computed once, read memory-mapped.

    <dataset>/features/<name>/plan.json                  what was embedded, by what: `FeaturePlan`
                              index.json                 the shards, and what could not be read
                              images-00000.safetensors   `embeds` (N, E); the N names in its metadata
                              questions-…, answers-…     likewise, each text being its own name
                              encoder/                   how to get the encoder again (`Encoder.save_pretrained`)

Notation: N names, E embedding, of a length of its own for each kind. `writer` makes such a folder.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from weightgen.data.features.shards import FORMAT, KINDS, check_index, read_shard, shard_names
from weightgen.encoders.load import load_encoder
from weightgen.errors import InputError, needs
from weightgen.protocols import Encoder
from weightgen.storage.files import StrPath, read_object

__all__ = ["FORMAT", "KINDS", "FeatureStore", "find_features", "partial_folder", "shard_names"]


class FeatureStore:
    """A finished store, memory-mapped.

    Args:
        folder: the folder of the store.

    Attributes:
        plan: what `plan.json` holds.
        index: what `index.json` holds.
        failed: the images that could not be read when the store was made, with the reasons.

    Raises:
        InputError: there is no finished store, or a file of it is missing or damaged.
    """

    def __init__(self, folder: StrPath) -> None:
        self.folder = Path(folder)
        if not (self.folder / "index.json").is_file():
            unfinished = partial_folder(folder).is_dir()
            state = "is unfinished: run recipes/embed.py again to go on" if unfinished else "does not exist"
            raise InputError(f"the feature store {folder} {state}")
        self.index: dict[str, Any] = read_object(self.folder / "index.json")
        if self.index.get("format") != FORMAT:
            raise InputError(f"{self.folder / 'index.json'} is not of format {FORMAT}")
        check_index(self.index, self.folder / "index.json")
        self.plan: dict[str, Any] = read_object(self.folder / "plan.json")
        if not isinstance(self.plan.get("encoder"), str) or not self.plan["encoder"].strip():
            raise InputError(f"{self.folder / 'plan.json'} does not say which encoder made the features")
        self._check_saved_encoder()
        self.failed: dict[str, str] = self.index["failed"]
        self._names: dict[str, list[str]] = {}
        self._shards: dict[str, list[Tensor]] = {}
        for kind in KINDS:
            read = [read_shard(self.folder / name) for name in self.index["shards"][kind]]
            self._names[kind] = [name for names, _ in read for name in names]
            self._shards[kind] = [embeds for _, embeds in read]
            if len({embeds.shape[1] for embeds in self._shards[kind]}) != 1:
                raise InputError(
                    f"{self.folder} needs {kind} of one length in all shards: run recipes/embed.py again"
                )

    def __repr__(self) -> str:
        return f"FeatureStore({self.folder}, " + ", ".join(f"{len(self._names[k])} {k}" for k in KINDS) + ")"

    def names(self, kind: str) -> list[str]:
        """The names of all rows of a kind, in order."""
        return self._names[kind]

    def dim(self, kind: str) -> int:
        """The size E of the embeddings of a kind."""
        return self._shards[kind][0].shape[1]

    def rows(self, kind: str, names: Any) -> Tensor:
        """Look names up.

        Args:
            kind: `images`, `questions` or `answers`.
            names: N names, as a sequence or a pyarrow array.

        Returns:
            Row numbers (N,), int64; -1 where the store has nothing of that name.
        """
        with needs("train"):
            import pyarrow as pa
            import pyarrow.compute as pc

        if not isinstance(names, pa.Array | pa.ChunkedArray):
            names = pa.array(names, pa.string())
        known = pa.array(self._names[kind], pa.string())
        rows = pc.fill_null(pc.index_in(names.cast(pa.string()), value_set=known), -1)
        return torch.from_numpy(rows.to_numpy().astype("int64"))

    def embeds(self, kind: str, rows: Tensor) -> Tensor:
        """Read rows, touching no more of the files than these.

        Args:
            kind: `images`, `questions` or `answers`.
            rows: row numbers (N,), from 0 up.

        Returns:
            Embeddings (N, E) in the type of the store.
        """
        shards = self._shards[kind]
        ends = torch.tensor([len(shard) for shard in shards]).cumsum(0)
        found = torch.empty(len(rows), self.dim(kind), dtype=shards[0].dtype)
        which = torch.bucketize(rows, ends, right=True)
        for number in which.unique().tolist():
            here = which == number
            found[here] = shards[number][rows[here] - (ends[number] - len(shards[number]))]
        return found

    @property
    def encoder_digest(self) -> str:
        """The digest of the encoder that made the features."""
        return str(self.plan["encoder"].split()[0])  # the precision follows it

    def load_encoder(self, device: str | torch.device = "cpu", trust_remote_code: bool = False) -> Encoder:
        """Load the encoder that made the features.

        Args:
            device: where it runs.
            trust_remote_code: whether a class that is not weightgen's may be imported and run.

        Raises:
            InputError: the store does not say how to get it, or it is another one by now.
        """
        folder = self.folder / "encoder"
        if not folder.is_dir():
            raise InputError(f"{self.folder} does not hold its encoder: run recipes/embed.py again")
        encoder = load_encoder(folder, device=device, trust_remote_code=trust_remote_code)
        self.check_encoder(encoder)
        return encoder

    def _check_saved_encoder(self) -> None:
        """Refuse features beside which lies another encoder by now; every stage opens a store first."""
        path = self.folder / "encoder" / "encoder.json"
        saved = read_object(path).get("digest") if path.is_file() else None
        if saved is not None and saved != self.encoder_digest:
            raise InputError(
                f"{path.parent} holds another encoder ({str(saved)[:12]}) than the one of these features "
                f"({self.encoder_digest[:12]}): run recipes/embed.py again"
            )

    def check_encoder(self, encoder: Encoder) -> None:
        """Refuse an encoder that is not the one of these features.

        Raises:
            InputError: the digests differ.
        """
        if encoder.digest != self.encoder_digest:
            raise InputError(
                f"{self.folder} was made with another encoder ({self.encoder_digest[:12]}) than {encoder.name} "
                f"({encoder.digest[:12]}): run recipes/embed.py with that one"
            )


def partial_folder(folder: StrPath) -> Path:
    """Where a store is while it is being made."""
    return Path(folder).with_name(Path(folder).name + ".partial")


def find_features(dataset: StrPath, name: str | None = None) -> FeatureStore:
    """Open the features of a data set.

    Args:
        dataset: the folder of the data set.
        name: which features; may be left out if there is one finished store only.

    Raises:
        InputError: there is no such store, or several and no name.
    """
    folder = Path(dataset) / "features"
    there = [path.parent.name for path in sorted(folder.glob("*/index.json"))]
    there = [each for each in there if not each.endswith(".partial")]
    if name is None:
        if not there:
            raise InputError(f"{dataset} has no features yet: run recipes/embed.py first")
        if len(there) > 1:
            raise InputError(
                f"{dataset} has several features: name one of {', '.join(there)} as features=NAME, or --features NAME"
            )
        name = there[0]
    return FeatureStore(folder / name)
