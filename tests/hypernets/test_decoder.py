import pytest
import torch

from weightgen.hypernets.decoder import HVAEDecoder
from weightgen.hypernets.hvae import HVAE
from weightgen.networks import MLP
from weightgen.storage.hub import load_part
from weightgen.weights import FunctionalNetwork


@pytest.mark.parametrize("linear", [True, False])
def test_decodes_as_the_hvae_does_and_is_smaller(tmp_path, linear):
    space = FunctionalNetwork(MLP(3, [40], 2)).space
    hvae = HVAE(space, latent_dim=2, hidden_dims=(8, 5), linear=linear).fit(torch.randn(9, space.size))
    decoder, latents = HVAEDecoder.of(hvae), torch.randn(3, 2)
    assert torch.equal(decoder(latents), hvae(latents)) and decoder.space == space
    decoder.save_pretrained(tmp_path / "decoder")
    assert torch.equal(load_part(HVAEDecoder, tmp_path / "decoder")(latents), hvae(latents))
    sizes = [sum(value.numel() for value in part.parameters()) for part in (decoder, hvae)]
    assert sizes[0] < 0.7 * sizes[1]
