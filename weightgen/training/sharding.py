"""Large matrices in pieces over several processes, by torch's FSDP. For recipes only.

A process holds its rows of each large matrix, their gradients and what the optimiser knows of them; a matrix is whole while it is used.
Everything else is in all processes. It works on GPUs and, for tests, on the CPU, where accelerate's own FSDP does not.
"""

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from weightgen.training.runs import Run


def prepare(run: Run, objective: nn.Module, optimizer: Optimizer, *others: nn.Module) -> tuple[Any, Any]:
    """What `Accelerator.prepare` does, and sharding where the run asks for it.

    Args:
        run: the run.
        objective: what is trained.
        optimizer: of parameters of `objective`; it has done no step yet.
        *others: modules with the same matrices, such as averages, which are sharded alike.

    Returns:
        The objective and the optimiser to train with.
    """
    if run.shard_above is None or run.accelerator.num_processes == 1:
        objective, optimizer = run.accelerator.prepare(objective, optimizer)
        return objective, optimizer
    names = {id(parameter): name for name, parameter in objective.named_parameters()}
    mesh = init_device_mesh(run.device.type, (run.accelerator.num_processes,))
    for module in (objective, *others):
        for part in module.modules():
            if (
                isinstance(part, nn.Linear)
                and part.weight.numel() > run.shard_above
                and not _is_sharded(part)
            ):
                fully_shard(part, mesh=mesh, reshard_after_forward=True)
    now = dict(objective.named_parameters())
    for group in optimizer.param_groups:
        group["params"] = [now[names[id(parameter)]] for parameter in group["params"]]
        group["foreach"] = group["fused"] = False  # several at once must be of one kind
    prepared = run.accelerator.prepare_model(objective, evaluation_mode=True)  # no DDP
    return prepared, run.accelerator.prepare_optimizer(optimizer)


def finish_gradients(
    run: Run, optimizer: Optimizer, parameters: Iterable[nn.Parameter], max_grad_norm: float | None
) -> None:
    """Average the gradients over the processes where that is not done yet, and clip their norm.

    Args:
        run: the run.
        optimizer: its parameters are those that have gradients.
        parameters: whose gradients are clipped.
        max_grad_norm: where their norm is clipped; None does not clip.
    """
    if run.shard_above is None or run.accelerator.num_processes == 1:
        if max_grad_norm is not None:
            run.accelerator.clip_grad_norm_(parameters, max_grad_norm)
        return
    grads = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    for grad in grads:
        if not isinstance(grad, DTensor):
            dist.all_reduce(grad)
            grad /= run.accelerator.num_processes
    if max_grad_norm is not None and (norm := norm_of(grads)) > max_grad_norm:
        for grad in grads:
            grad *= max_grad_norm / (norm + 1e-6)


@torch.no_grad()
def norm_of(tensors: Iterable[Tensor]) -> float:
    """The norm of all numbers of some tensors, sharded or not."""
    found = [tensor.detach() for tensor in tensors]
    if not any(isinstance(tensor, DTensor) for tensor in found):
        return float(get_total_norm(found))
    return float(torch.stack([whole(torch.linalg.vector_norm(tensor)) for tensor in found]).norm())


def whole(tensor: Tensor) -> Tensor:
    """A tensor of which every process has a piece, put together; all processes must call it. Others are returned as they are."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def like(value: Tensor, other: Tensor | None) -> Tensor:
    """This process's piece of a whole tensor, if `other` is one; else the tensor itself."""
    if not isinstance(other, DTensor) or other.shape != value.shape:
        return value
    return distribute_tensor(value.to(other.device), other.device_mesh, other.placements, src_data_rank=None)


def piece(tensor: Tensor) -> Tensor:
    """This process's piece of a tensor, in the same memory; the tensor itself where it is not sharded."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def put_together(module: nn.Module) -> None:
    """Replace all sharded layers of a module by whole ones, to be saved; all processes must call it."""
    for parent in [*module.modules()]:
        for name, part in parent.named_children():
            if isinstance(part, nn.Linear) and _is_sharded(part):
                plain = nn.Linear(part.in_features, part.out_features, part.bias is not None, device="meta")
                # Copies: what was put together may be part of a larger memory, which safetensors refuses.
                state = {key: whole(value).clone() for key, value in part.state_dict().items()}
                plain.load_state_dict(state, assign=True)
                setattr(parent, name, plain.requires_grad_(part.weight.requires_grad))


def _is_sharded(module: nn.Module) -> bool:
    return isinstance(module, FSDPModule)
