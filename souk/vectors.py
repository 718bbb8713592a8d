"""Vectors on the wire <-> numpy: little-endian bytes with their length and number format."""

import numpy as np
from numpy.typing import NDArray

from souk.types.v1 import types_pb2

Float32 = NDArray[np.float32]

MAX_DIM = 4096

_FORMATS: dict[int, np.dtype[np.float32] | np.dtype[np.float16]] = {
    types_pb2.DTYPE_UNSPECIFIED: np.dtype("<f4"),
    types_pb2.DTYPE_FLOAT32: np.dtype("<f4"),
    types_pb2.DTYPE_FLOAT16: np.dtype("<f2"),
}


def pack_vector(vector: Float32) -> types_pb2.Vector:
    """A one-dimensional array as float32 on the wire."""
    return types_pb2.Vector(
        data=vector.astype("<f4", copy=False).tobytes(), dim=vector.shape[0], dtype=types_pb2.DTYPE_FLOAT32
    )


def pack_matrix(matrix: Float32) -> types_pb2.Matrix:
    """An array of shape (rows, dim) as float32 on the wire."""
    return types_pb2.Matrix(
        data=matrix.astype("<f4", copy=False).tobytes(),
        rows=matrix.shape[0],
        dim=matrix.shape[1],
        dtype=types_pb2.DTYPE_FLOAT32,
    )


def unpack_vector(vector: types_pb2.Vector, field: str = "vector") -> Float32:
    """A float32 array of shape (dim,). Raises ValueError, naming `field`, where length and content disagree."""
    return _read(vector.data, 1, vector.dim, vector.dtype, field).reshape(-1)


def unpack_matrix(matrix: types_pb2.Matrix, field: str = "vectors") -> Float32:
    """A float32 array of shape (rows, dim). Raises ValueError, naming `field`, where shape and content disagree."""
    return _read(matrix.data, matrix.rows, matrix.dim, matrix.dtype, field)


def _read(data: bytes, rows: int, dim: int, dtype: int, field: str) -> Float32:
    if not 1 <= dim <= MAX_DIM:
        raise ValueError(f"{field}.dim: {dim}; it must be 1 to {MAX_DIM}")
    number = _FORMATS.get(dtype)
    if number is None:
        raise ValueError(f"{field}.dtype: {dtype} is not a known number format")
    expected = rows * dim * number.itemsize
    if len(data) != expected:
        raise ValueError(f"{field}.data: {len(data)} bytes; {rows} x {dim} numbers of this format take {expected}")
    array: Float32 = np.frombuffer(data, dtype=number).astype(np.float32).reshape(rows, dim)
    return array
