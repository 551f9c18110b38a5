"""The same training run on every x86-64 processor: libraries told to leave the newer instruction sets alone.

Vector kernels differ in the last bit between instruction sets, and a training run amplifies a last bit into another
policy. The environment below pins every library to kernels that any x86-64 machine of the last fifteen years has; it
must be in place before the first import of numpy or torch, so `train` starts itself again with it. Other
architectures train as well, but to another policy. Slower than native kernels by about a third.
"""

import os
import sys
from collections.abc import Sequence

ENVIRONMENT: dict[str, str] = {
    "ATEN_CPU_CAPABILITY": "default",  # torch's own kernels: no AVX2, no AVX-512
    "MKL_CBWR": "COMPATIBLE",  # MKL's documented mode for equal results on all processors
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "OPENBLAS_CORETYPE": "Nehalem",  # numpy's BLAS
    "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR",  # numpy's dispatched exp, log, sums
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA,-FMA4,-AVX512F",  # libm's exp and log
    "OMP_NUM_THREADS": "1",  # the order of a sum depends on the number of threads
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
}


def pinned() -> bool:
    """Whether this process already runs in `ENVIRONMENT`."""
    return all(os.environ.get(name) == value for name, value in ENVIRONMENT.items())


def restart_pinned(arguments: Sequence[str]) -> None:
    """Replace this process by `python -m trainer <arguments>` in `ENVIRONMENT`; returns only if already pinned."""
    if pinned():
        return
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(  # noqa: S606  (our own interpreter, with our own arguments)
        sys.executable, [sys.executable, "-m", "trainer", *arguments], {**os.environ, **ENVIRONMENT}
    )
