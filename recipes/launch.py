"""Run a recipe in several processes on this machine's CPU or GPUs.

    python recipes/launch.py 2 recipes/train_hypernet.py dataset=runs/demo/photos/dataset output=runs/demo/multitask

With GPUs, each process has its own. `torchrun` and `accelerate launch` do the same, but report the error of a recipe with forty lines of
their own, and hide its exit status: here an error is one line, Ctrl-C and SIGTERM reach the recipe, and its status is the status.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from types import FrameType

import torch

from weightgen.errors import InputError, one_line_errors

SECONDS = 30.0  # that processes get to end by themselves once one has failed


def free_port() -> int:
    """A port that no process listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(rank: int, number: int, port: int) -> dict[str, str]:
    """What torch.distributed and accelerate read, for one of so many processes."""
    names = {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": number,
        "LOCAL_WORLD_SIZE": number,
        "MASTER_PORT": port,
    }
    found = {**os.environ, "MASTER_ADDR": "127.0.0.1", **{name: str(value) for name, value in names.items()}}
    threads = max(1, (os.cpu_count() or 1) // number)
    found.setdefault("OMP_NUM_THREADS", str(threads))
    return found if torch.cuda.device_count() >= number else found | {"ACCELERATE_USE_CPU": "true"}


def wait(processes: list[subprocess.Popen[bytes]]) -> int:
    """Wait for all; where one fails, the others are ended. Returns the status of the first that failed, or 0."""
    status = 0
    while any(process.poll() is None for process in processes) and not status:
        time.sleep(0.05)
        status = next((p.returncode for p in processes if p.returncode), 0)
    deadline = time.monotonic() + (SECONDS if status in (130, 143) else 1.0)
    for process in processes if status else ():
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    failed = [process.returncode for process in processes if process.returncode]
    status = status or (failed[0] if failed else 0)
    return status if status >= 0 else 128 - status


def main(words: list[str]) -> int:
    """Start the processes, hand signals on to them, and wait for them."""
    if len(words) < 2 or not words[0].isdigit() or not int(words[0]):
        raise InputError(
            "expected the number of processes and a recipe: python recipes/launch.py 2 recipes/train_hypernet.py ..."
        )
    number, port = int(words[0]), free_port()
    if not os.path.isfile(words[1]):
        raise InputError(f"no recipe {words[1]}")
    processes: list[subprocess.Popen[bytes]] = []

    def hand_on(signum: int, frame: FrameType | None) -> None:
        for process in processes:
            process.send_signal(signum)

    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, hand_on)
    for rank in range(number):
        command = [sys.executable, *words[1:]]
        # A session of its own: Ctrl-C reaches a recipe once, through this process.
        processes.append(
            subprocess.Popen(command, env=environment(rank, number, port), start_new_session=True)
        )
    try:
        return wait(processes)
    finally:
        for process in processes:
            process.kill()


if __name__ == "__main__":
    with one_line_errors():
        sys.exit(main(sys.argv[1:]))
