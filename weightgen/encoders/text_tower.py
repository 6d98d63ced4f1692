"""A text tower of transformers or sentence-transformers: texts to one vector each."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from weightgen.encoders.bert import TextModel, read_bert
from weightgen.encoders.clip_checks import check_folder
from weightgen.encoders.image_tower import digest_of
from weightgen.encoders.packaged_towers import ADVICE, PACKAGED, packaged_weights
from weightgen.errors import InputError, check_sizes
from weightgen.storage.files import StrPath, read_json, read_object

POOLING = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
FILES = (
    *("config.json", "modules.json", "sentence_bert_config.json", "*/config.json"),
    *("tokenizer*", "special_tokens_map.json", "vocab*", "merges.txt", "*.model"),
    *("*.safetensors", "*.safetensors.index.json"),
)


class TextTower:
    """A frozen transformer whose token vectors are pooled, and normalised where its folder says so.

    Args:
        folder: holds the files of a transformers model with a fast tokenizer. With `modules.json` of
            sentence-transformers, that decides how it pools; without, it takes the mean and does not normalise.
        name: what to call it, on the Hub or in words.
        device: where it runs.
        named: whether `name` alone is enough to get the weights again.
        read: reads model and tokenizer; by default what transformers can read.

    Attributes:
        dim: the length F of the vectors.
        digest: SHA-256 of weights, tokenizer and pooling.

    Raises:
        InputError: a file is missing or damaged, or a module that is not known here.
    """

    def __init__(
        self,
        folder: StrPath,
        name: str,
        *,
        device: str | torch.device = "cpu",
        named: bool = True,
        read: Callable[[Path], TextModel] | None = None,
    ) -> None:
        self.folder, self.name, self.named = Path(folder), name, named
        self.device = torch.device(device)
        check_folder(self.folder)
        self.pooling, self.normalize = _pooling(self.folder)
        made = (read or _read_any)(self.folder)
        self.model, self._states, self._tokenizer = made.model.to(self.device), made.states, made.tokenizer
        self.dim, length = made.dim, _max_length(self.folder, made.max_tokens)
        self.max_tokens = length
        self._tokenizer.enable_truncation(length)
        self._tokenizer.enable_padding(
            pad_id=self._tokenizer.token_to_id(made.padding), pad_token=made.padding
        )
        settings = [self.pooling, self.normalize, self._tokenizer.to_str()]
        self.digest = digest_of(self.model, settings)

    @classmethod
    def load(cls, name: str, *, device: str | torch.device = "cpu") -> Self:
        """Load a tower from a folder, an installed package, or the Hub.

        Args:
            name: a folder, or a name on the Hub such as `sentence-transformers/all-MiniLM-L6-v2`.
            device: where it runs.

        Raises:
            InputError: it cannot be had.
        """
        if Path(name).expanduser().is_dir():
            folder = Path(name).expanduser()
            return cls(folder, folder.resolve().name, device=device, named=False)
        packaged = packaged_weights(name)
        if packaged is not None:
            return cls(
                packaged.parent, name, device=device, read=read_bert
            )  # the file known by its digest is a BERT
        from huggingface_hub import snapshot_download

        try:
            folder = Path(snapshot_download(name, allow_patterns=list(FILES)))
        except Exception as error:  # of the Hub's client or of the network
            remedy = f"{ADVICE} has it" if name in PACKAGED else "give a local folder in place of the name"
            raise InputError(
                f"the text tower {name} is no folder and cannot be downloaded ({type(error).__name__}): connect to "
                f"the network once, or {remedy}"
            ) from error
        return cls(folder, name, device=device)

    def to(self, device: str | torch.device) -> None:
        """Move it, in place."""
        self.device = torch.device(device)
        self.model.to(device)

    def save(self, folder: StrPath) -> None:
        """Copy the tower's files into a new folder."""
        for pattern in FILES:
            for path in self.folder.glob(pattern):
                target = Path(folder) / path.relative_to(self.folder)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)

    @torch.inference_mode()
    def __call__(self, texts: Sequence[str], batch_size: int = 64) -> Tensor:
        """Vectors (N, F) of N texts."""
        pieces = [torch.empty(0, self.dim, device=self.device)]
        for start in range(0, len(texts), batch_size):
            encoded = self._tokenizer.encode_batch(list(texts[start : start + batch_size]))
            ids = torch.tensor([each.ids for each in encoded], device=self.device)
            mask = torch.tensor([each.attention_mask for each in encoded], device=self.device)
            pieces.append(self._pooled(self._states(ids, mask), mask))
        return torch.cat(pieces)

    def _pooled(self, states: Tensor, mask: Tensor) -> Tensor:
        if self.pooling == "cls":
            vectors = states[:, 0]
        else:
            weight = mask.unsqueeze(-1).to(states.dtype)
            vectors = (states * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)
        return torch.nn.functional.normalize(vectors, dim=-1) if self.normalize else vectors


def _read_any(folder: Path) -> TextModel:
    from transformers import AutoModel, AutoTokenizer

    try:
        with _no_progress_bar():
            model = AutoModel.from_pretrained(
                folder,
                local_files_only=True,
                use_safetensors=True,
                dtype=torch.float32,
                trust_remote_code=False,
            )
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers raises many kinds
        raise InputError(
            f"{folder} holds no text tower that transformers can read: {' '.join(str(error).split())[:200]}"
        ) from error
    model.eval().requires_grad_(False)

    def states(ids: Tensor, mask: Tensor) -> Tensor:
        return model(input_ids=ids, attention_mask=mask).last_hidden_state

    # The tokenizer of the tokenizers library: unlike its wrapper it may be called from threads.
    sizes = (model.config.hidden_size, model.config.max_position_embeddings)
    return TextModel(model, states, tokenizer.backend_tokenizer, *sizes, tokenizer.pad_token)


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _pooling(folder: Path) -> tuple[str, bool]:
    """How sentence-transformers' files say that token vectors become one: (`mean` or `cls`, normalised)."""
    if not (folder / "modules.json").is_file():
        return "mean", False
    try:
        kinds = {each["type"].rpartition(".")[2]: each["path"] for each in read_json(folder / "modules.json")}
    except (TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{folder / 'modules.json'} is not one of sentence-transformers: {error}") from error
    if any(
        not isinstance(path, str) or ".." in Path(path).parts or Path(path).is_absolute()
        for path in kinds.values()
    ):
        raise InputError(f"{folder / 'modules.json'} names a folder outside of its own")
    if unknown := sorted(kinds.keys() - {"Transformer", "Pooling", "Normalize"}):
        raise InputError(
            f"{folder} has the module {unknown[0]}: only Transformer, Pooling and Normalize are known here"
        )
    settings = read_object(folder / kinds["Pooling"] / "config.json") if "Pooling" in kinds else {}
    chosen = [key for key, value in settings.items() if key.startswith("pooling_mode") and value is True]
    if len(chosen) > 1 or any(key not in POOLING for key in chosen):
        raise InputError(f"{folder} pools by {', '.join(chosen)}: expected the mean or the first token")
    return (POOLING[chosen[0]] if chosen else "mean"), "Normalize" in kinds


def _max_length(folder: Path, limit: int) -> int:
    path = folder / "sentence_bert_config.json"
    length = read_object(path).get("max_seq_length") or limit if path.is_file() else limit
    check_sizes(max_seq_length=length)
    return int(min(length, limit))
