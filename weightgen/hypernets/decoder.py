"""The decoder of an HVAE alone: all that sampling needs, in half the space."""

from collections.abc import Sequence
from typing import Self

from torch import Tensor, nn

from weightgen.errors import check_sizes
from weightgen.hypernets.hvae import HVAE
from weightgen.hypernets.saving import SPACE_CODER
from weightgen.nn.mlp import kaiming_mlp
from weightgen.nn.standardizer import Standardizer
from weightgen.storage.hub import SavedModule
from weightgen.weights import WeightSpace


class HVAEDecoder(nn.Module, SavedModule, coders=SPACE_CODER):
    """h(z) = unstandardise(MLP(z) + B z), as in `HVAE`.

    Args:
        space: the weight space of the base network.
        latent_dim: Z.
        hidden_dims: widths of the HVAE's hidden layers; the decoder has them in reverse.
        linear: whether there is the linear path B.
    """

    def __init__(
        self, space: WeightSpace, latent_dim: int, hidden_dims: Sequence[int], linear: bool = True
    ) -> None:
        super().__init__()
        check_sizes(latent_dim=latent_dim, hidden_dims=hidden_dims)
        self.space = space
        self.latent_dim = latent_dim
        self.standardizer = Standardizer(space.size)
        self.decoder = kaiming_mlp([latent_dim, *reversed(hidden_dims), space.size])
        self.decoder_path = nn.Linear(latent_dim, space.size, bias=False) if linear else None

    @classmethod
    def of(cls, hvae: HVAE) -> Self:
        """The decoder of an HVAE, with a copy of its parameters."""
        layers = [layer for layer in hvae.decoder if isinstance(layer, nn.Linear)]
        hidden_dims = [layer.in_features for layer in layers[:0:-1]]
        made = cls(hvae.space, hvae.latent_dim, hidden_dims, hvae.decoder_path is not None)
        state = hvae.state_dict()
        made.load_state_dict({name: state[name] for name in made.state_dict()})
        return made.eval()

    def initial_latents(self, embeds: Tensor) -> Tensor:
        """The latents (B, Z) from which adaptation starts: the mean 0 of the prior N(0, I)."""
        return embeds.new_zeros(len(embeds), self.latent_dim)

    def decoder_parameters(self) -> list[nn.Parameter]:
        """All parameters: nothing here encodes weights."""
        return list(self.parameters())

    def forward(self, latents: Tensor) -> Tensor:
        """Decode latents (*, Z) into weights (*, P)."""
        scaled = self.decoder(latents)
        if self.decoder_path is not None:
            scaled = scaled + self.decoder_path(latents)
        return self.standardizer.inverse(scaled)
