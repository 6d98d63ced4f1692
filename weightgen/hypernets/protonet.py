"""Prototypical network as a hypernetwork: convolutions are learned, the last layer follows from class means.

Notation: B tasks, N examples, C classes, P weights.
"""

import torch
from torch import nn

from weightgen.hypernets.support_writer import NETWORK_CODER, Generated, SupportWriter, support_moments
from weightgen.networks.convnet import ConvNet, side_by_side
from weightgen.storage.hub import SavedModule
from weightgen.tasks import PADDING_LABEL, Examples


class ProtoNet(SupportWriter, SavedModule, coders=NETWORK_CODER):
    """Logits −‖f(x) − m_c‖² up to a term that all classes share, where m_c is the mean feature of class c.

    The last layer has the weights 2 m_c and the biases −‖m_c‖².

    References:
        Snell, Swersky, Zemel, "Prototypical Networks for Few-shot Learning", 2017, equations 2 and 8.

    Args:
        network: the CNN; its layers but the last are f, and are learned.
    """

    def __init__(self, network: ConvNet) -> None:
        super().__init__(network, {"head.weight", "head.bias"})

    def generate(self, support: Examples, moments: bool = False) -> Generated:
        """Write CNNs from B support sets, see `SupportWriter.generate`; unlabelled samples count in the statistics only."""
        network, labels = self.network, support.labels
        params = self.shared_params(len(labels))
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
