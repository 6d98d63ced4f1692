import pytest
import torch

from weightgen import InputError
from weightgen.encoders.hyperclip import HyperCLIP

P, E = 20, 6


def test_paper_size():
    encoder = HyperCLIP(weights=394_240, embed_dim=768)
    assert sum(p.numel() for p in encoder.parameters()) == 394_240 * 256 + 256 + 256 * 768 + 768  # 101.1 M


def test_rank_is_the_cosine():
    encoder = HyperCLIP(P, E, hidden_dims=(8,))
    weights, embeds = torch.randn(3, P), torch.randn(5, E)
    hidden, _, out = encoder.mlp
    for b, k in ((0, 0), (2, 4)):
        by_hand = out(torch.tanh(hidden(weights[b])))
        cosine = torch.cosine_similarity(by_hand, embeds[k], dim=0)
        assert encoder.similarity(weights, embeds)[b, k].item() == pytest.approx(cosine.item(), abs=1e-5)


def test_standardised_embeddings_spread():
    """Embeddings that all point one way tell nothing apart by cosine until their mean is taken away."""
    torch.manual_seed(0)
    encoder = HyperCLIP(P, E, standardize=True)
    weights, embeds = torch.randn(50, P), torch.randn(50, E) + 20
    encoder.fit(weights, embeds)
    raw = torch.nn.functional.normalize(embeds, dim=1)
    placed = encoder.project_text(embeds)
    assert (raw @ raw.T).min() > 0.9 and (placed @ placed.T).min() < -0.5
    assert placed.norm(dim=1).allclose(torch.ones(50))


def test_noise_is_for_training_only():
    encoder = HyperCLIP(P, E, standardize=True, noise=1.0).fit(torch.randn(9, P), torch.randn(9, E))
    weights = torch.randn(2, P)
    assert not encoder(weights).equal(encoder(weights))
    encoder.eval()
    assert encoder(weights).equal(encoder(weights))


def test_saved_and_read(tmp_path):
    encoder = HyperCLIP(P, E, (4, 3), "softplus", standardize=True).fit(torch.randn(9, P), torch.randn(9, E))
    encoder.save_pretrained(tmp_path / "encoder")
    back = HyperCLIP.from_pretrained(tmp_path / "encoder")
    weights, embeds = torch.randn(2, P), torch.randn(2, E)
    assert back.similarity(weights, embeds).allclose(encoder.similarity(weights, embeds))


@pytest.mark.parametrize(
    ("settings", "message"), [({"activation": "relu"}, "softplus"), ({"noise": 1.0}, "standardize=True")]
)
def test_wrong_settings(settings, message):
    with pytest.raises(InputError, match=message):
        HyperCLIP(P, E, **settings)
