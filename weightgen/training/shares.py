"""One batch in shares: each draws the randomness of the whole batch, and computes its own examples of it. For recipes only.

Several processes have one share each, or several one after the other (gradient accumulation). So a run has the same losses and weights, up
to rounding, however many processes and parts share its batches, and can go on with others.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from weightgen.errors import InputError
from weightgen.nn.across_processes import Shares
from weightgen.protocols import Outcome
from weightgen.tasks import TaskBatch
from weightgen.training.divergence import check_loss
from weightgen.training.own_rows import own_rows, share_of
from weightgen.training.runs import Run


def outcome(run: Run, objective: Callable[[Any], Outcome], batch: Any) -> Outcome:
    """What an objective says of a batch, of which this process computes its share.

    With `gradient_accumulation_steps` k, the share is computed in k parts, so that memory is needed for one of them at a time. A first
    turn without gradients finds the sums of all parts; a second one adds up the gradients, of all parts but the last, which `update` adds.

    Args:
        run: the run.
        objective: whose means are over all shares (`weightgen.nn.across_processes`).
        batch: the whole batch, the same in every process: tensors (B, *) and `TaskBatch`es, nested in tuples.

    Returns:
        The loss and the metrics of the whole batch.

    Raises:
        InputError: there are fewer examples than shares, random numbers are drawn that do not belong to single examples, or the loss is NaN
            or infinite.
    """
    parts = int(run.settings.get("gradient_accumulation_steps", 1))
    process, number = run.accelerator.process_index, parts * run.accelerator.num_processes
    if number == 1:
        found = objective(batch)
    else:
        pairs = isinstance(batch, TaskBatch)
        sizes = _sizes(batch, number)
        own = [own_rows(batch, process * parts + part, number) for part in range(parts)]
        draws = [ByExample(sizes, process * parts + part, number, pairs) for part in range(parts)]
        found = (
            _share(run, objective, own, draws) if parts == 1 else _parts_of_share(run, objective, own, draws)
        )
    check_loss(run, objective, batch, found.loss)
    return found


def _share(
    run: Run, objective: Callable[[Any], Outcome], own: list[Any], draws: list["ByExample"]
) -> Outcome:
    run.randomness = draws[0]
    with run.randomness:
        return objective(own[0])


def _parts_of_share(
    run: Run, objective: Callable[[Any], Outcome], own: list[Any], draws: list["ByExample"]
) -> Outcome:
    """The outcome of the last part, after the gradients of those before it."""
    shares, begin, whole = Shares(len(own)), _random_state(run.device), False
    with torch.no_grad():
        while not whole:
            for batch, randomness in zip(own, draws, strict=True):
                with begin(), shares.learn(), randomness:
                    objective(batch)
            whole = shares.add_up()
    last = len(own) - 1
    for part, (batch, randomness) in enumerate(zip(own, draws, strict=True)):
        run.randomness = randomness
        with nullcontext() if part == last else run.accelerator.no_sync(objective):
            with begin(), shares.use(part), randomness:
                found = objective(batch)
            if part < last:
                with randomness:
                    run.accelerator.backward(found.loss)
    return found


def _random_state(device: torch.device) -> Callable[[], Any]:
    """A context that begins with torch's present random state, and ends with what is then its state."""
    before = torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None

    @contextmanager
    def begin() -> Iterator[None]:
        torch.set_rng_state(before[0])
        if before[1] is not None:
            torch.cuda.set_rng_state(before[1], device)
        yield

    return begin


def _sizes(batch: Any, number: int) -> list[int]:
    """The sizes of the parts of a batch.

    Raises:
        InputError: some shares would have nothing to compute.
    """
    parts = [part for part in ((batch,) if isinstance(batch, TaskBatch) else batch) if part is not None]
    sizes = [len(part.embeds) if isinstance(part, TaskBatch) else len(part) for part in parts]
    if all(isinstance(part, Tensor) and len(part) < number for part in parts):
        raise InputError(
            f"{number} processes or parts cannot share a batch of {sizes[0]}: write batch_size={number} or more"
        )
    return sizes


class ByExample(TorchDispatchMode):
    """A context in which random numbers for the examples of a process are drawn for the whole batch, and its own are taken of them.

    All processes have the same random state, and leave it as one process would that computes the whole batch. It works at the level of
    torch's operations, so that it holds inside `vmap` and for modules of others. Draws from a generator of its own stay as they are.

    Args:
        sizes: of the whole batch; several where only some of its examples have tasks. What is drawn for as many examples as this
            process has of one size is drawn for that size; for the larger one where two give it the same number.
        process: number of this process.
        processes: how many there are.
        pair: whether a single row has a companion.
    """

    def __init__(self, sizes: Sequence[int], process: int, processes: int, pair: bool = False) -> None:
        super().__init__()
        shares = {size: share_of(size, process, processes, pair) for size in sorted(sizes)}
        self.wholes = {len(mine): (size, mine) for size, mine in shares.items()}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded not in func.tags or not _draws(func, args, kwargs):
            return func(*args, **kwargs)
        size = next((part for part in (*args, *kwargs.values()) if isinstance(part, list) and part), None)
        shape = size or next((part.shape for part in args if isinstance(part, Tensor) and part.ndim), None)
        if shape is None:  # one number for all
            return func(*args, **kwargs)
        if shape[0] not in self.wholes:
            raise InputError(
                f"random numbers of shape {tuple(shape)} for {'or'.join(map(str, self.wholes))} examples: several processes draw by "
                "example; draw with the examples as the first dimension, or use one process"
            )
        total, mine = self.wholes[shape[0]]

        def widened(value: Any) -> Any:
            if isinstance(value, list):
                return [total, *value[1:]] if value else value
            if not value.ndim:
                return value
            return _placed(value, total, mine)

        wide, wide_kwargs = tree_map_only((Tensor, list), widened, (args, kwargs), is_leaf=_is_list)
        found = tree_map_only(Tensor, lambda value: value[mine], func(*wide, **wide_kwargs))
        if func._schema.is_mutable:
            return args[0].copy_(found)
        return found


def _placed(value: Tensor, total: int, mine: list[int]) -> Tensor:
    """The rows of a tensor among zeros, with dimensions in the same order in memory, in which random numbers are filled in."""
    order = list(range(value.ndim))
    if 0 not in value.stride():
        order.sort(key=lambda dim: -value.stride()[dim])
    sizes = [total, *value.shape[1:]]
    whole = value.new_zeros([sizes[dim] for dim in order]).permute(
        [order.index(dim) for dim in range(value.ndim)]
    )
    whole[mine] = value
    return whole


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _draws(func: Any, args: Any, kwargs: Any) -> bool:
    """Whether an operation that can draw does so, from the common random state."""
    given = dict(zip((argument.name for argument in func._schema.arguments), args, strict=False)) | kwargs
    return (
        given.get("generator") is None
        and given.get("dropout_p", "unset") not in (0, 0.0)
        and not ("scaled_dot_product" in func.name() and not given.get("dropout_p"))
    )
