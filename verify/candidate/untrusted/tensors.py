"""Tensors whose bytes are not what their shape and type announce. No tensor is unpacked, nothing is allocated."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import onnx

from pipeline.errors import InputError

RANK_LIMIT = 16  # dimensions
T = onnx.TensorProto
# bits of one element in raw_data
BITS = {
    **dict.fromkeys((T.DOUBLE, T.INT64, T.UINT64, T.COMPLEX64), 64),
    **dict.fromkeys((T.FLOAT, T.INT32, T.UINT32), 32),
    **dict.fromkeys((T.FLOAT16, T.BFLOAT16, T.INT16, T.UINT16), 16),
    **dict.fromkeys((T.INT8, T.UINT8, T.BOOL), 8),
    **dict.fromkeys((T.FLOAT8E4M3FN, T.FLOAT8E4M3FNUZ, T.FLOAT8E5M2, T.FLOAT8E5M2FNUZ, T.FLOAT8E8M0), 8),
    **dict.fromkeys((T.INT4, T.UINT4, T.FLOAT4E2M1), 4),
    **dict.fromkeys((T.INT2, T.UINT2), 2),
    T.COMPLEX128: 128,
}
# the typed field of each type that is not stored in int32_data; complex numbers are two entries
TYPED = {
    T.FLOAT: "float_data",
    T.COMPLEX64: "float_data",
    T.DOUBLE: "double_data",
    T.COMPLEX128: "double_data",
    T.INT64: "int64_data",
    T.UINT32: "uint64_data",
    T.UINT64: "uint64_data",
    T.STRING: "string_data",
}
PAYLOADS = ("float_data", "double_data", "int32_data", "int64_data", "uint64_data", "string_data", "raw_data")
HINT = "export the model again, or fetch it again"


def refuse_bad_tensor(name: str, tensor: Any, path: Path, size: int) -> None:
    """InputError for a shape, type or payload that cannot be; `size` is the bytes of the file. External data aside."""
    needed = bytes_of(name, tensor, path)
    if is_external(tensor):
        return
    found = [field for field in PAYLOADS if len(getattr(tensor, field))]
    if len(found) > 1:
        raise InputError(f"tensor {name}: stored twice, as {' and '.join(found)}", where=path, hint=HINT)
    elements = math.prod(tensor.dims)
    if needed > size:
        what = f"tensor {name}: bad shape {list(tensor.dims)}: it needs {needed} bytes, the file has {size}"
        raise InputError(what, where=path, hint=HINT)
    if not found and elements == 0:
        return
    field = found[0] if found else "raw_data"
    have = len(getattr(tensor, field))
    wanted = needed if field == "raw_data" else _entries(tensor, elements)
    kind = T.DataType.Name(tensor.data_type)
    if have != wanted or (field != "raw_data" and field != TYPED.get(tensor.data_type, "int32_data")):
        unit = "bytes" if field == "raw_data" else f"entries of {field}"
        what = f"tensor {name}: size mismatch: {kind} {list(tensor.dims)} needs {wanted} {unit}, {have} are stored"
        raise InputError(what, where=path, hint=HINT)
    if field == "raw_data" and tensor.data_type == T.STRING:
        raise InputError(f"tensor {name}: size mismatch: STRING as raw bytes", where=path, hint=HINT)


def bytes_of(name: str, tensor: Any, path: Path) -> int:
    """Bytes that a tensor's shape and type ask for (a string counts as one); InputError when they cannot be."""
    dims = list(tensor.dims)
    if len(dims) > RANK_LIMIT or any(size < 0 for size in dims):
        shape = str(dims) if len(dims) <= RANK_LIMIT else f"of {len(dims)} dimensions"
        raise InputError(f"tensor {name}: bad shape {shape}", where=path, hint=HINT)
    bits = 8 if tensor.data_type == T.STRING else BITS.get(tensor.data_type)
    if bits is None:
        raise InputError(f"tensor {name}: bad type {tensor.data_type}", where=path, hint=HINT)
    count: int = math.prod(dims)
    return (count * bits + 7) // 8


def is_external(tensor: Any) -> bool:
    """Return whether a tensor says that its data lies in another file."""
    return bool(tensor.data_location == T.EXTERNAL or tensor.external_data)


def _entries(tensor: Any, elements: int) -> int:
    """Entries of the typed field: below a byte several elements share one, a complex number takes two."""
    if tensor.data_type in {T.COMPLEX64, T.COMPLEX128}:
        return 2 * elements
    bits = BITS.get(tensor.data_type, 8)
    return math.ceil(elements * bits / 8) if bits < 8 else elements
