"""MAML as a hypernetwork: learned initial weights, adapted by a few gradient steps on the support set.

Notation: B tasks, N examples, P weights.
"""

import torch

from weightgen.errors import MAX_LAYERS, InputError, check_range, check_sizes
from weightgen.hypernets.support_writer import NETWORK_CODER, Generated, SupportWriter, support_moments
from weightgen.metrics import task_loss
from weightgen.networks.convnet import ConvNet
from weightgen.storage.hub import SavedModule
from weightgen.tasks import PADDING_LABEL, Examples


class MAML(SupportWriter, SavedModule, coders=NETWORK_CODER):
    """w_{i+1} = w_i − α ∇ loss(w_i, support) from a learned w_0, differentiated through unless `first_order`.

    References:
        Finn, Abbeel, Levine, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks", 2017,
        algorithm 1 (α = 0.4 and one step in training on 5-way, α = 0.1 and five steps on 20-way Omniglot).

    Args:
        network: the CNN, whose weights are the start of w_0.
        steps: gradient steps.
        lr: α.
        head_lr: α of the last layer, by default `lr`. A last layer with few inputs, as in a CNN of 8
            channels, needs a far larger step size than the convolutions tolerate.
        first_order: whether the inner gradients count as constants.

    Raises:
        InputError: no steps, or an α that is not positive.
    """

    def __init__(
        self,
        network: ConvNet,
        steps: int = 5,
        lr: float = 0.1,
        first_order: bool = False,
        head_lr: float | None = None,
    ) -> None:
        head_lr = lr if head_lr is None else head_lr
        check_sizes(1, MAX_LAYERS, steps=steps)
        check_range(lr=lr, head_lr=head_lr)
        if not (lr and head_lr):
            raise InputError(f"lr and head_lr must be above 0, got {lr} and {head_lr}")
        super().__init__(network)
        self.steps, self.first_order = steps, first_order
        self.rates = {name: head_lr if name.startswith("head.") else lr for name, _ in self.space.shapes}

    def generate(self, support: Examples, moments: bool = False) -> Generated:
        """Adapt B CNNs, see `SupportWriter.generate`; unlabelled samples count in the statistics only.

        Raises:
            InputError: under `torch.inference_mode`, which allows no gradients.
        """
        if torch.is_inference_mode_enabled():
            raise InputError(
                "MAML computes gradients: write torch.no_grad() in place of torch.inference_mode()"
            )
        present = support.labels != PADDING_LABEL
        mask = None if bool(present.all()) else present
        labels = support.labels.masked_fill(support.labels < 0, PADDING_LABEL)
        outside = torch.is_grad_enabled()
        with torch.enable_grad():
            params = self.shared_params(len(labels))
            if not outside:
                params = {name: value.detach().requires_grad_() for name, value in params.items()}
            for _ in range(self.steps):
                loss = task_loss(self.network.run_batch(params, support.inputs, mask), labels).sum()
                gradients = torch.autograd.grad(
                    loss, list(params.values()), create_graph=outside and not self.first_order
                )
                params = {
                    name: value - self.rates[name] * gradient
                    for (name, value), gradient in zip(params.items(), gradients, strict=True)
                }
        return Generated(params, support_moments(self.network, params, support) if moments else [])
