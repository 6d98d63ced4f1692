"""A batch in several parts has the loss and the gradients of the batch in one; bf16 leaves the weights in single precision."""

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from weightgen.errors import InputError
from weightgen.nn.across_processes import gather_rows, shared_max, shared_mean
from weightgen.protocols import Outcome
from weightgen.storage.files import read_json, read_tensors
from weightgen.training.loop import seed_step, update
from weightgen.training.runs import Run
from weightgen.training.shares import outcome
from weightgen.training.trials import TRIALS, command, make_trial_data, run_recipe


class Objective(nn.Module):
    """A loss that is no mean of losses of examples: of noisy rows compared with all, cut to a length that the whole batch decides."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.layer = nn.Linear(3, 4)

    def forward(self, batch):
        inputs, lengths = batch
        noisy = inputs + torch.randn_like(inputs)
        rows = self.layer(noisy)[:, : shared_max(lengths.max())]
        rows = rows * torch.rand(rows.shape)
        compared = gather_rows(rows) @ gather_rows(inputs[:, :1] * rows).mT
        mean = shared_mean(rows.square())
        return Outcome(compared.logsumexp(dim=1).mean() * mean.sqrt() + mean, {"mean": mean.detach()})


def learned(tmp_path, parts, rows):
    run = Run(Accelerator(), "train_x", tmp_path / "out", {"gradient_accumulation_steps": parts}, {})
    objective = Objective()
    optimizer = torch.optim.SGD(objective.parameters(), lr=0.1)
    generator = torch.Generator().manual_seed(0)
    batch = torch.randn(rows, 3, generator=generator), torch.randint(1, 4, (rows,), generator=generator)
    losses = []
    for step in range(3):
        seed_step(0, step)
        loss, metrics = outcome(run, objective, batch)
        losses.append([loss.item(), metrics["mean"].item(), torch.rand(()).item()])
        update(run, optimizer, loss, objective.parameters(), lr=0.1)
    return torch.tensor(losses), torch.cat([p.detach().flatten() for p in objective.parameters()])


@pytest.mark.parametrize("rows", [6, 7])
@pytest.mark.parametrize("parts", [2, 3, 6])
def test_parts_give_what_the_whole_gives(tmp_path, parts, rows):
    whole, found = learned(tmp_path, 1, rows), learned(tmp_path, parts, rows)
    torch.testing.assert_close(found[0], whole[0], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found[1], whole[1], rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module")
def trained(root, tmp_path_factory):
    """Multitask training on tiny data: as usual, in parts, and in bf16."""
    folder = tmp_path_factory.mktemp("trials") / "trial"
    make_trial_data(folder)
    for kind, more in KINDS.items():
        run_recipe(command(root, folder, "multitask", folder / kind, **more))
    return folder


KINDS = {"whole": {}, "parts": {"gradient_accumulation_steps": 2}, "bf16": {"mixed_precision": "bf16"}}


def states(folder):
    return read_tensors(folder / "hypernet/model.safetensors")


def test_a_recipe_in_parts(trained):
    found = states(trained / "parts")
    for name, value in states(trained / "whole").items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-5)
    assert read_json(trained / "parts/training.json") == read_json(trained / "whole/training.json")


def test_a_recipe_in_bf16_keeps_weights_in_single_precision(trained):
    whole, found = states(trained / "whole"), states(trained / "bf16")
    assert {value.dtype for value in found.values()} == {torch.float32}
    apart = max((found[name] - value).abs().max().item() for name, value in whole.items())
    assert 0 < apart < 0.1
    accuracy = [
        read_json(trained / kind / "training.json")["validation_accuracy"] for kind in ("whole", "bf16")
    ]
    assert accuracy[1] == pytest.approx(accuracy[0], abs=0.1)


def test_a_run_goes_on_in_other_parts_but_not_in_another_precision(root, trained, capsys):
    same = command(root, trained, "multitask", trained / "whole", gradient_accumulation_steps=4)
    with pytest.raises(SystemExit) as ended:
        run_recipe(same)
    assert ended.value.code == 0 and "finished already" in capsys.readouterr().out
    with pytest.raises(InputError, match="with mixed_precision=no, and now mixed_precision=bf16"):
        run_recipe(command(root, trained, "multitask", trained / "whole", mixed_precision="bf16"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lr", "bf16"])
def test_every_recipe(root, tmp_path, kind):
    """A learning rate of a million is reported by each of them, and bf16 gives losses near those of single precision."""
    make_trial_data(tmp_path / "trial")
    for name, (recipe, _) in TRIALS.items():
        output = tmp_path / "trial" / name
        if name == "embed":
            continue
        run_recipe(command(root, tmp_path / "trial", name, output))
        if not recipe.startswith("train_"):
            continue
        more = {"lr": 1e6} if kind == "lr" else {"mixed_precision": "bf16"}
        words = command(root, tmp_path / "trial", name, tmp_path / "trial" / f"{name}_{kind}", **more)
        if kind == "lr":
            with pytest.raises(InputError, match="training diverged; write a lower lr"):
                run_recipe(words)
        else:
            run_recipe(words)
