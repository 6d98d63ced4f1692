"""What a prior is trained on: latents of adapted weights, with the conditions of their tasks.

Notation: R draws, T tasks, B rows, Z latent, E embedding.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from weightgen.data.conditions import TaskConditions
from weightgen.errors import InputError


class LatentTasks:
    """Posteriors N(mean, std²) of the latents of R weight vectors of each of T tasks.

    A posterior is sampled anew each time it is used, as in the released code of HyperLDM; this smooths the
    distribution of latents.

    Args:
        mean: with shape (R, T, Z).
        std: with shape (R, T, Z); zeros for latents that are known exactly.
        conditions: of the T tasks.
        posterior_noise: factor on `std`; 0 takes the means.
    """

    def __init__(
        self, mean: Tensor, std: Tensor, conditions: TaskConditions, posterior_noise: float = 1.0
    ) -> None:
        self.mean, self.std = mean, std
        self.conditions = conditions
        self.posterior_noise = posterior_noise

    def everything(self) -> Tensor:
        """One sample of every posterior, with shape (R, T, Z)."""
        return self.mean + self.posterior_noise * self.std * torch.randn_like(self.mean)

    def draw(self, first_rows: Sequence[int], batch_size: int) -> tuple[Tensor, Tensor]:
        """Draw latents with their conditions.

        Args:
            first_rows: numbers of the tasks of the first rows; the other tasks are drawn at random.
            batch_size: B.

        Returns:
            Latents (B, Z) and conditions (B, E).

        Raises:
            InputError: more tasks are given than B.
        """
        if len(first_rows) > batch_size:
            raise InputError(
                f"expected at most batch_size={batch_size} tasks whose network is run, got {len(first_rows)}: "
                "write a smaller function_tasks"
            )
        device, (draws, tasks, size) = self.mean.device, self.mean.shape
        others = torch.randint(tasks, (batch_size - len(first_rows),), device=device)
        rows = torch.cat([torch.tensor(first_rows, dtype=torch.int64, device=device), others])
        chosen = torch.randint(draws, (batch_size,), device=device)
        noise = torch.randn(batch_size, size, device=device)
        latents = self.mean[chosen, rows] + self.posterior_noise * self.std[chosen, rows] * noise
        return latents, self.conditions.draw(rows)
