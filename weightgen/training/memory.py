"""How the process asks the system for memory."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of mallopt, in malloc.h of glibc


def keep_memory() -> bool:
    """Keep freed memory in the process instead of giving it back, for training whose activations are large.

    Each large tensor is otherwise mapped anew, and the system fills every page of it with zeros before it is used.
    The same as `MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=2000000000` in the environment, and without effect on any number.

    Returns:
        Whether it was done: on Linux with glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return (
        mallopt is not None
        and bool(mallopt(M_MMAP_MAX, 0))
        and bool(mallopt(M_TRIM_THRESHOLD, 2_000_000_000))
    )
