"""The wire: messages are really encoded, and bytes are the length of what was encoded.

Layout, little endian. Both sides know the model's tensors (names, shapes) and the present mask, so a model travels as
its active float32 values alone.

    2 bytes  magic "FF"      1 byte  version       1 byte  flags (1 model, 2 mask, 4 scalars)
    u32      num_examples (0 from the server)
    [mask]   one bit a prunable weight, in the model's order
    [model]  float32 active parameters, then float32 buffers
    [scalars] u32 K, then K float32
    u8       number of tensors, each: u8 length + UTF-8 name, u8 dtype, u8 ndim, u32 sizes, values (booleans as bits)
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from bench.errors import ContractError, FedForeError
from bench.masks import Mask, prunable_shapes
from bench.primitives.flat import kept_entries, model_tensors

MAGIC = b"FF"
VERSION = 2
MAX_DIMENSIONS = 64
_HEADER = struct.Struct("<2sBBI")
_HAS_MODEL, _HAS_MASK, _HAS_SCALARS = 1, 2, 4
_DTYPES = (
    torch.float32, torch.float64, torch.float16, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8,
    torch.bool,
)  # fmt: skip


class WireError(FedForeError):
    """A message cannot be decoded: truncated, of another version, or malformed."""


@dataclass(frozen=True)
class Layout:
    """What both sides know of a model: the shapes of the tensors that travel, and of its prunable weights."""

    shapes: Mapping[str, torch.Size]
    prunable: Mapping[str, torch.Size]

    @classmethod
    def of(cls, model: nn.Module) -> Layout:
        """Return the layout of `model`."""
        return cls({name: tensor.shape for name, tensor in model_tensors(model).items()}, prunable_shapes(model))

    def active(self, mask: Mask | None) -> Tensor | None:
        """Return the indices of the values that travel under `mask`, in the concatenation of all tensors."""
        if mask is None:
            return None
        return kept_entries(self.shapes, mask, torch.device("cpu")).nonzero().squeeze(1)


@dataclass(frozen=True)
class Packet:
    """The content of a message in either direction. `model` names tensors of the layout; `mask` is a new mask."""

    num_examples: int = 0
    mask: Mask | None = None
    model: Mapping[str, Tensor] | None = None
    scalars: Tensor | None = None
    tensors: Mapping[str, Tensor] = field(default_factory=dict)


def _raw(tensor: Tensor) -> bytes:
    values = tensor.detach().cpu().contiguous().numpy()
    return (np.packbits(values) if tensor.dtype == torch.bool else values).tobytes()


def encode(packet: Packet, layout: Layout, active: Tensor | None) -> bytes:
    """Encode a packet; `active` are the indices of the model's values that travel, None for all.

    Raises ContractError (`message_type`) for a tensor the wire has no code for or with a name over 255 bytes.
    """
    if not 0 <= packet.num_examples < 2**32 or len(packet.tensors) > 255:
        raise ContractError(
            "message_type",
            f"A message has {packet.num_examples} examples and {len(packet.tensors)} tensors; the wire carries at most "
            "4294967295 and 255, and no negative number.",
        )
    flags = 0
    body = []
    if packet.mask is not None:
        flags |= _HAS_MASK
        body.append(_raw(torch.cat([packet.mask[name].reshape(-1) for name in layout.prunable])))
    if packet.model is not None:
        flags |= _HAS_MODEL
        values = torch.cat([packet.model[name].reshape(-1).to(torch.float32) for name in layout.shapes])
        body.append(_raw(values.cpu() if active is None else values.cpu()[active]))
    if packet.scalars is not None:
        flags |= _HAS_SCALARS
        scalars = packet.scalars.reshape(-1).to(torch.float32)
        body.append(struct.pack("<I", len(scalars)) + _raw(scalars))
    body.append(struct.pack("<B", len(packet.tensors)))
    for name, tensor in packet.tensors.items():
        encoded = name.encode()
        if tensor.dtype not in _DTYPES or tensor.ndim > MAX_DIMENSIONS or len(encoded) > 255:
            raise ContractError(
                "message_type", f'The wire cannot carry tensor "{name[:40]}" of {tensor.dtype}, {tensor.ndim}-d.'
            )
        body.append(struct.pack("<B", len(encoded)) + encoded)
        body.append(struct.pack("<BB", _DTYPES.index(tensor.dtype), tensor.ndim))
        body.append(struct.pack(f"<{tensor.ndim}I", *tensor.shape))
        body.append(_raw(tensor))
    return _HEADER.pack(MAGIC, VERSION, flags, packet.num_examples) + b"".join(body)


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0

    def take(self, count: int) -> bytes:
        end = self.position + count
        if end > len(self.data):
            raise WireError(f"A message ends after {len(self.data)} bytes where {end} are needed.")
        part = self.data[self.position : end]
        self.position = end
        return part

    def unpack(self, form: str) -> tuple[int, ...]:
        return struct.unpack(form, self.take(struct.calcsize(form)))

    def tensor(self, dtype: torch.dtype, count: int) -> Tensor:
        if dtype == torch.bool:
            packed = np.frombuffer(self.take(-(-count // 8)), dtype=np.uint8)
            return torch.from_numpy(np.unpackbits(packed, count=count).astype(bool))
        raw = self.take(count * dtype.itemsize)
        return torch.frombuffer(bytearray(raw), dtype=dtype) if count else torch.empty(0, dtype=dtype)


def decode(data: bytes, layout: Layout, active: Tensor | None, device: torch.device) -> Packet:
    """Decode what `encode` wrote; pruned entries of the model are zero. Raises WireError for anything else."""
    reader = _Reader(data)
    magic, version, flags, num_examples = _HEADER.unpack(reader.take(_HEADER.size))
    if magic != MAGIC or version != VERSION or flags > (_HAS_MODEL | _HAS_MASK | _HAS_SCALARS):
        raise WireError(f"A message starts with {data[:4]!r}, not with a header of wire version {VERSION}.")
    mask = _read_mask(reader, layout, device) if flags & _HAS_MASK else None
    model = _read_model(reader, layout, active, device) if flags & _HAS_MODEL else None
    scalars = None
    if flags & _HAS_SCALARS:
        (count,) = reader.unpack("<I")
        scalars = reader.tensor(torch.float32, count).to(device)
    tensors = {}
    for _ in range(reader.unpack("<B")[0]):
        (length,) = reader.unpack("<B")
        try:
            name = reader.take(length).decode()
        except UnicodeDecodeError:
            raise WireError("A message holds a tensor name that is no UTF-8.") from None
        code, ndim = reader.unpack("<BB")
        if code >= len(_DTYPES):
            raise WireError(f"A message holds a tensor of unknown type {code}.")
        shape = reader.unpack(f"<{ndim}I")
        if ndim > MAX_DIMENSIONS or math.prod(max(size, 1) for size in shape) >= 2**60:
            raise WireError(f"A message holds a tensor of {ndim} dimensions whose sizes are no tensor's.")
        tensors[name] = reader.tensor(_DTYPES[code], math.prod(shape)).reshape(shape).to(device)
    if reader.position != len(data):
        raise WireError(f"A message has {len(data) - reader.position} bytes too many.")
    return Packet(num_examples, mask, model, scalars, tensors)


def _read_mask(reader: _Reader, layout: Layout, device: torch.device) -> Mask:
    sizes = [shape.numel() for shape in layout.prunable.values()]
    parts = reader.tensor(torch.bool, sum(sizes)).to(device).split(sizes)
    return Mask({name: part.reshape(shape) for (name, shape), part in zip(layout.prunable.items(), parts, strict=True)})


def _read_model(reader: _Reader, layout: Layout, active: Tensor | None, device: torch.device) -> dict[str, Tensor]:
    sizes = [shape.numel() for shape in layout.shapes.values()]
    count = sum(sizes) if active is None else len(active)
    values = reader.tensor(torch.float32, count)
    if active is not None:
        values = torch.zeros(sum(sizes)).index_copy_(0, active, values)
    parts = values.to(device).split(sizes)
    return {name: part.reshape(shape) for (name, shape), part in zip(layout.shapes.items(), parts, strict=True)}
