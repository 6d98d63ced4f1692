"""Prototypical network, seen as a hypernetwork: the convolutions are learned, the last layer is written from the class means.

Letters: B tasks, N examples, C classes, P weights.
"""

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from weightgen.hypernets.support_sets import (
    NETWORK_CODER,
    Generated,
    check_support,
    export_network,
    support_moments,
)
from weightgen.networks.convnet import ConvNet, side_by_side
from weightgen.tasks import PADDING_LABEL, Examples
from weightgen.weight_space import WeightSpace


class PrototypeNetwork(nn.Module, PyTorchModelHubMixin, library_name="weightgen", coders=NETWORK_CODER):
    """Logits −‖f(x) − m_c‖² up to what is the same for all classes: head weights 2 m_c and biases −‖m_c‖², m_c the mean of class c.

    References:
        Snell, Swersky, Zemel, "Prototypical Networks for Few-shot Learning", 2017, equations 2 and 8.

    Args:
        network: the CNN; its layers but the last are f, and are learned.
    """

    def __init__(self, network: ConvNet) -> None:
        super().__init__()
        self._network = (network.requires_grad_(False),)
        self.space = WeightSpace.of(network)
        self.learned = nn.ParameterDict(
            {
                name.replace(".", "/"): nn.Parameter(network.get_parameter(name).detach().clone())
                for name, _ in self.space.shapes
                if not name.startswith("head")
            }
        )

    @property
    def network(self) -> ConvNet:
        """The CNN; its own weights are of no account."""
        return self._network[0]

    def generate(self, support: Examples, moments: bool = False) -> Generated:
        """Write CNNs from B support sets, see `HyperTransformer.generate`; unlabelled samples count in the statistics only."""
        network, labels = self.network, support.labels
        params = {
            name.replace("/", "."): value.expand(len(labels), *value.shape)
            for name, value in self.learned.items()
        }
        present = labels != PADDING_LABEL
        x, mask = side_by_side(support.inputs), None if bool(present.all()) else present
        for i in range(network.depth):
            x, _ = network.layer(i, x, params, mask)
        features = x.unflatten(1, (len(labels), -1)).flatten(2).transpose(0, 1)  # (B, N, features)
        slots = torch.where(labels < 0, network.num_classes, labels)
        members = nn.functional.one_hot(slots, network.num_classes + 1)[:, :, :-1].to(features.dtype)
        means = members.transpose(1, 2) @ features / members.sum(1).clamp_min(1)[:, :, None]
        params |= {"head.weight": 2 * means, "head.bias": -means.square().sum(2)}
        return Generated(params, support_moments(network, params, support) if moments else [])

    def forward(self, condition: Examples) -> Tensor:
        """Weights, with shape (B, P), see `HyperTransformer.forward`."""
        check_support(condition, self.network)
        return self.space.flatten(self.generate(condition).params)

    def export(self, support: Examples, stored_statistics: bool = False) -> ConvNet:
        """The CNN of one support set, see `HyperTransformer.export`."""
        return export_network(self, support, stored_statistics)
