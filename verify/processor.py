"""Find which instruction sets this process sees: onnxruntime has kernels for each, with its own sums and roundings.

They are asked of the processor (CPUID) or of the kernel (HWCAP), not of /proc/cpuinfo: in a process under an emulator,
that file still tells of the machine.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import platform

from numpy._core._multiarray_umath import __cpu_features__ as features

HOST = platform.machine()
# x86-64, best first: the names people use, with those of numpy, which asks both the processor and the system.
BY_NUMPY = {
    "AVX512-VNNI": ("X86_V4", "AVX512VNNI"),
    "AVX512": ("X86_V4",),
    "AVX2": ("AVX2", "FMA3"),
    "AVX": ("AVX",),
    "SSE4.2": ("SSE42",),
}
# void cpuid(leaf, subleaf, result[4]): push rbx; mov r8, rdx; mov eax, edi; mov ecx, esi; cpuid;
# mov [r8], eax; mov [r8+4], ebx; mov [r8+8], ecx; mov [r8+12], edx; pop rbx; ret
CPUID = bytes.fromhex("53 4989d0 89f8 89f1 0fa2 418900 41895804 41894808 4189500c 5b c3")
AT_HWCAP2, HWCAP2_I8MM = 26, 1 << 13  # <elf.h>, <asm/hwcap.h>


@functools.cache
def instruction_sets() -> tuple[str, ...]:
    """Return the instruction sets that onnxruntime tells apart, best first, such as AVX512-VNNI, AVX512, AVX2, SSE4.2.

    The last one is what every such processor has; it is the machine's name where nothing more is known.
    """
    if HOST == "x86_64":
        return _x86_64()
    return _arm64() if HOST in ("aarch64", "arm64") else (HOST,)


def _x86_64() -> tuple[str, ...]:
    found = [name for name, needed in BY_NUMPY.items() if all(features.get(feature) for feature in needed)]
    if "AVX2" in found and _cpuid(7, 1)[0] >> 4 & 1:
        found.insert(found.index("AVX2"), "AVX-VNNI")
    if "AVX512" in found and _cpuid(7, 0)[3] >> 25 & 1:
        found.insert(0, "AMX-INT8")
    return tuple(found) or ("SSE2",)


def _arm64() -> tuple[str, ...]:
    """Baseline products of floats (NEON), of int8 by dot product, and by matrices."""
    getauxval = getattr(ctypes.CDLL(None), "getauxval", None)  # the GNU library's
    if getauxval is not None:
        getauxval.restype, getauxval.argtypes = ctypes.c_ulong, [ctypes.c_ulong]
    matrices = getauxval is not None and getauxval(AT_HWCAP2) & HWCAP2_I8MM
    names = {"arm64-i8mm": matrices, "arm64-dotprod": features.get("ASIMDDP"), "arm64": True}
    return tuple(name for name, there in names.items() if there)


def _cpuid(leaf: int, subleaf: int) -> tuple[int, int, int, int]:
    """Return the registers eax, ebx, ecx, edx after CPUID; zeros for a leaf beyond the processor's last."""
    with mmap.mmap(-1, len(CPUID), prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC) as code:
        code.write(CPUID)
        start = ctypes.c_char.from_buffer(code)
        call = ctypes.CFUNCTYPE(None, ctypes.c_uint, ctypes.c_uint, ctypes.c_void_p)(ctypes.addressof(start))
        result = (ctypes.c_uint * 4)()
        call(0, 0, result)
        last = result[0]
        if leaf <= last:
            call(leaf, subleaf, result)
        found = tuple(result) if leaf <= last else (0, 0, 0, 0)
        del call, start  # the mapping may not close while they point into it
    return found[0], found[1], found[2], found[3]
