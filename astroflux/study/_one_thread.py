# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Let torch compute in one thread, fast."""

from contextlib import contextmanager

import torch

__all__ = ['one_thread']


@contextmanager
def one_thread():
    """Let torch compute in one thread, with memory that it keeps, and then as before."""
    n_threads = torch.get_num_threads()
    flushed = float(torch.tensor(1e-40) * 1) == 0
    torch.set_num_threads(1)
    # Adam's averages of gradients that have become zero run through denormal numbers.
    torch.set_flush_denormal(True)
    # After a block of nearly 32 MiB was freed, the C library of Linux keeps blocks of this size
    # for the next use; new pages from the system would cost a third of the time of a step.
    for _ in range(2):
        torch.empty(2**25 - 2**16, dtype=torch.uint8)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)
        torch.set_flush_denormal(flushed)
