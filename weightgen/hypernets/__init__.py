"""Hypernetworks: condition → weights of the base network."""

from weightgen.hypernets.decoder import HVAEDecoder
from weightgen.hypernets.film import FiLM
from weightgen.hypernets.hnet import HNet
from weightgen.hypernets.hvae import HVAE
from weightgen.hypernets.hypertransformer import HyperTransformer
from weightgen.hypernets.maml import MAML
from weightgen.hypernets.protonet import ProtoNet
from weightgen.hypernets.shared import SharedWeights
from weightgen.hypernets.support_hnet import SupportHNet

__all__ = [
    "HVAE",
    "MAML",
    "FiLM",
    "HNet",
    "HVAEDecoder",
    "HyperTransformer",
    "ProtoNet",
    "SharedWeights",
    "SupportHNet",
]
