"""Who runs the code: torch's compiler or its function transforms, loops compiled by numba, and a CUDA compiler.

numba is an extra (``fast``). A module that holds compiled loops imports it; it is imported only where
:func:`numba_runs` says so, and beside each of its loops torch's operations do the same.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any

import torch

__all__ = ["compiled", "cuda_compiler", "in_threads", "numba_runs", "torch_compiles", "torch_transforms"]

_WORTH_A_THREAD = 2**16  # numbers: fewer are done before a second thread has begun
# By its name torch would look for the key at each question. What is behind the `or` is for type checkers only.
_VMAP_MODE = torch._C._parse_dispatch_key("VmapMode") or "VmapMode"


def torch_compiles() -> bool:
    """Whether this is being compiled by ``torch.compile``.

    torch 2.3 imports its compiler to answer this, which fails inside of ``torch.func.vmap`` and ``FakeTensorMode``.
    """
    return "torch._dynamo" in sys.modules and torch.compiler.is_compiling()


def torch_transforms() -> bool:
    """Whether this is being compiled, or transformed by ``torch.func``, or batched: then gradients are left to torch.

    torch 2.3 compiles no ``torch.autograd.Function`` that ``torch.func`` takes; and where ``torch.func.vmap`` meets
    one, it imports its compiler, which fails there. ``torch.autograd`` has batches of its own, of many gradients at
    once (``is_grads_batched=True``, ``vectorize=True``), which ``torch.func`` does not know of.
    """
    if torch_compiles() or torch._C._are_functorch_transforms_active():
        return True
    return torch._C._dispatch_tls_is_dispatch_key_included(_VMAP_MODE)


def cuda_compiler() -> bool:
    """Whether torch finds an nvcc: SLAYER compiles its CUDA code at first use, and raises an error without one."""
    from torch.utils import cpp_extension  # takes a while, and looks for CUDA

    home = cpp_extension.CUDA_HOME
    return home is not None and shutil.which("nvcc", path=os.path.join(home, "bin")) is not None


@cache
def numba_runs() -> bool:
    """Whether numba is installed (the extra ``fast``) and can be imported beside this numpy; warns if it cannot."""
    if importlib.util.find_spec("numba") is None:
        return False
    try:
        importlib.import_module("numba")
    except (ImportError, SystemError) as error:  # it refuses a numpy that is newer than it knows
        warnings.warn(f"numba is installed but does not run, so the slower loops are torch's: {error}", stacklevel=2)
        return False
    return True


def compiled(loop: Callable[..., Any], **options: Any) -> Any:
    """``loop`` compiled at its first call, without Python's global lock; kept on disk where numba can write a cache."""
    import numba

    try:
        return numba.njit(nogil=True, cache=True, **options)(loop)
    except RuntimeError:  # no directory can be written: neither beside the module nor in the user's cache
        return numba.njit(nogil=True, **options)(loop)


def in_threads(work: Callable[[slice], None], rows: int, numbers: int) -> None:
    """Call ``work`` on slices of the rows, on as many of torch's threads as their ``numbers`` are worth."""
    threads = min(torch.get_num_threads(), rows, numbers // _WORTH_A_THREAD)
    if threads < 2:
        work(slice(0, rows))
        return
    edges = [rows * index // threads for index in range(threads + 1)]
    mine, *others = (slice(first, stop) for first, stop in pairwise(edges))
    with ThreadPoolExecutor(len(others)) as pool:
        started = [pool.submit(work, part) for part in others]
        work(mine)
        for one in started:
            one.result()
