"""Saving a pipeline as a folder, reading it back, and sharing it on the Hugging Face Hub."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
from huggingface_hub import HfApi, ModelCard
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from weightgen.errors import InputError
from weightgen.pipelines.folder import check_sizes_of, describe, read_pipeline
from weightgen.pipelines.generated_weights import GeneratedWeights
from weightgen.storage.cards import CardFacts, model_card
from weightgen.storage.files import StrPath, final_name, write_json, written_beside
from weightgen.storage.hub import HUB, PIPELINE_FILES, downloaded
from weightgen.storage.shipped import shipped_folder
from weightgen.weights import FunctionalNetwork


class SavedPipeline:
    """What a `WeightPipeline` inherits for its folder."""

    parts: Any

    @property
    def description(self) -> dict[str, Any]:
        """What `pipeline.json` holds."""
        return describe(self)

    def save_pretrained(
        self,
        folder: StrPath,
        overwrite: bool = False,
        training: Mapping[str, Any] | None = None,
        facts: CardFacts | None = None,
    ) -> None:
        """Write a folder of safetensors and JSON with all that the pipeline needs.

        Args:
            folder: the folder to make.
            overwrite: whether an existing one may be replaced.
            training: facts about the training, for `training.json`.
            facts: what the card of the model, `README.md`, says of its data, scores, limits and seed.

        Raises:
            InputError: the folder exists.
        """
        card = self.card(final_name(folder), training, facts)
        with written_beside(folder, overwrite) as partial:
            partial.mkdir()
            for name, part in self.parts.items():
                part.save_pretrained(partial / name)
            write_json(partial / "pipeline.json", self.description)
            card.save(partial / "README.md")
            if training is not None:
                write_json(partial / "training.json", dict(training))

    def card(
        self, name: str, training: Mapping[str, Any] | None = None, facts: CardFacts | None = None
    ) -> ModelCard:
        """The card of the pipeline; the seed is that of the training, unless `facts` have one."""
        known = facts or CardFacts()
        if known.seed is None and isinstance(seed := (training or {}).get("seed"), int):
            known = known._replace(seed=seed)
        sizes = self.description["sizes"]
        summary = (
            f"A pipeline of weightgen: it writes the {sizes['weights']:,} weights of a classifier from a question. "
            f"Its encoder is {self.description['encoder']['name']}."
        )
        usage = 'from weightgen import WeightPipeline\n\npipe = WeightPipeline.from_pretrained("FOLDER or hf://OWNER/NAME")'
        return model_card(name, summary, usage, known, training)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        revision: str | None = None,
        private: bool | None = None,
        token: str | None = None,
        commit_message: str = "Upload a weightgen pipeline",
        training: Mapping[str, Any] | None = None,
        facts: CardFacts | None = None,
    ) -> str:
        """Upload the folder that `save_pretrained` writes to the Hugging Face Hub.

        Args:
            repo_id: `owner/name`; it is made if it does not exist.
            revision: the branch; by default the main one. A branch that does not exist is made.
            private: whether a new repository is private.
            token: of the Hub; by default the one of `hf auth login`.
            commit_message: of the upload.
            training: see `save_pretrained`.
            facts: see `save_pretrained`.

        Returns:
            The address of the commit.

        Raises:
            InputError: the upload fails.
        """
        api = HfApi(token=token)
        try:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, repo_id.rpartition("/")[2])
                self.save_pretrained(path, training=training, facts=facts)
                api.create_repo(repo_id, private=private, exist_ok=True)
                if revision is not None:
                    api.create_branch(repo_id, branch=revision, exist_ok=True)
                commit = api.upload_folder(
                    repo_id=repo_id, folder_path=path, revision=revision, commit_message=commit_message
                )
        except (HfHubHTTPError, HFValidationError, OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"cannot upload to {repo_id}: {reason:.200}") from error
        return str(commit.commit_url)

    @classmethod
    def from_pretrained(
        cls,
        folder: StrPath,
        *,
        device: str | torch.device = "cpu",
        trust_remote_code: bool = False,
        **download: Any,
    ) -> Self:
        """Read what `save_pretrained` wrote.

        Args:
            folder: the folder; the name of a pipeline that comes with the package; or `hf://owner/name`, a pipeline on the Hugging Face
                Hub, which is the only name that is downloaded.
            device: where everything runs.
            trust_remote_code: whether classes that are not weightgen's may be imported and run.
            **download: further arguments of `huggingface_hub.snapshot_download`, such as `revision`.

        Raises:
            InputError: the folder is missing, damaged, another library's, or names foreign classes; the download fails; or arguments of
                a download for a folder.
        """
        if download and not str(folder).startswith(HUB):
            raise InputError(
                f"{', '.join(download)} is for names on the Hub: write {HUB}owner/name, got {folder}"
            )
        if str(folder).startswith(HUB):
            folder = downloaded(folder, PIPELINE_FILES, **download)
        parts, record = read_pipeline(folder, device, trust_remote_code)
        prior = parts.pop("prior")
        network = FunctionalNetwork.of_space(parts.pop("network"), parts["hypernet"].space)
        options = {"template": record.get("template"), "guidable": record.get("guidable", True)}
        made: Any = cls
        pipe: Self = made(parts.pop("encoder"), prior, parts.pop("hypernet"), network, **options, **parts)
        check_sizes_of(pipe, record, shipped_folder(folder) / "pipeline.json")
        return pipe

    def load_weights(self, path: StrPath) -> GeneratedWeights:
        """Read samples that `GeneratedWeights.save` wrote.

        Raises:
            InputError: not such a file, or one of another model.
        """
        return GeneratedWeights.load(path, self)
