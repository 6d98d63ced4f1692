"""How the rows of the benchmarks are measured: CPU time, in turns with what they are compared with, and the machine's own rates beside."""

import os
import resource
import time
from statistics import median

import torch

DEVICE = torch.device(os.environ.get("DEVICE", "cpu"))
ROUNDS = int(os.environ.get("ROUNDS") or 0)  # at most so many, where it is given


def cpu_seconds():
    """CPU time of this process and of its children that have ended; on a GPU the time of the clock, when all work is done."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def seconds_of(run):
    began = cpu_seconds()
    run()
    return cpu_seconds() - began


class Machine:
    """The rates that every limit is computed from."""

    def __init__(self):
        kind = torch.bfloat16 if DEVICE.type == "cuda" else torch.float32
        self.left, self.right = torch.randn(2, 1024, 1024, device=DEVICE).to(kind)
        self.source = torch.randn(16_000_000, device=DEVICE)
        self.target = torch.empty_like(self.source)
        self.rates()  # warm-up

    def rates(self):
        """Floating-point operations and bytes (read and written) per second, measured now."""
        product = seconds_of(lambda: [self.left @ self.right for _ in range(4)])
        copy = seconds_of(lambda: [self.target.copy_(self.source) for _ in range(2)])
        return 4 * 2 * 1024**3 / product, 2 * 2 * 4 * len(self.source) / copy


class Row:
    """One row: ours, and in turns with it the procedure of the released code and what the limit is made of.

    row("what it is", ours, released=..., share=4 / 64, flops=..., bytes=..., aims=(20, 0.6))
    """

    def __init__(self, benchmark, machine):
        self.benchmark, self.machine = benchmark, machine

    def __call__(
        self,
        what,
        ours,
        *,
        released=None,
        share=1.0,  # of the work of ours, which `released` does
        flops=0.0,
        bytes=0.0,
        limit=None,  # a run whose time is the limit, in place of operations and bytes
        limit_share=1.0,
        aims=(None, None),  # times as fast as the released procedure; share of the limit
        rounds=5,
        note="",
        **facts,
    ):
        others = {"released": [], "limit": []}
        if released is not None:
            released()

        def before_each_round():
            if released is not None:
                others["released"].append(seconds_of(released) / share)
            if limit is not None:
                others["limit"].append(seconds_of(limit) / limit_share)
            elif flops or bytes:
                rate, width = self.machine.rates()
                others["limit"].append(flops / rate + bytes / width)

        rounds = min(rounds, ROUNDS or rounds)
        self.benchmark.pedantic(ours, setup=before_each_round, rounds=rounds, warmup_rounds=1)
        mine = self.benchmark.stats.stats.data
        found = {"what": what, "ours": mine, "aims": list(aims), "note": note, **facts}
        for name, times in others.items():
            if times:
                times = times[-len(mine) :]  # without the warm-up
                ratios = [other / own for other, own in zip(times, mine, strict=True)]
                found[name] = times
                found[f"{name}_ratio"] = [median(ratios), min(ratios), max(ratios)]
        self.benchmark.extra_info.update(found)
        return found
