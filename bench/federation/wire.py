"""The wire: messages are really encoded, and bytes are the length of what was encoded.

Layout, little endian. Both sides know the model's tensors (names, shapes) and the present mask, so a model travels as
its active values alone.

    2 bytes  magic "FF"      1 byte  version       1 byte  flags (1 model, 2 mask, 4 scalars, 8 x float type)
    u32      num_examples (0 from the server)
    [mask]   one bit a prunable weight, in the model's order
    [model]  active parameters, then float buffers, as floats
    [scalars] u32 K, then K floats
    u8       number of tensors, each: u8 length + UTF-8 name, u8 dtype + 16 x form, u8 ndim, u32 sizes, values

The float type is 0 float32, 1 float16 or 2 bfloat16: the place in `fedfore.cell.WirePrecision`. Models, scalars and
all float32 and float64 tensors travel in it and are float32 or float64 again after decoding (float64 tensors stay exact
under float32). float16 ends at 65,504: larger values arrive as infinity. Integers, booleans, masks and float16 tensors
always travel as they are.

A tensor travels in the form that takes least bytes, the first of equals; n are its values, z those with a bit set
(negative zero has one), w the bytes of an integer that holds n:

    0 dense    n values; booleans are bits, and always dense
    1 bitmap   n bits, then z values
    2 indices  z, then z ascending positions, all of w bytes, then z values; only where these bytes are at least
               n / 1,024, so that no short message can ask for much memory
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedfore.cell import WirePrecision
from fedfore.errors import ContractError, FedForeError
from fedfore.masks import Mask, prunable_shapes
from fedfore.primitives.flat import kept_entries, model_tensors

MAGIC = b"FF"
VERSION = 3
MAX_DIMENSIONS = 64
VALUES_PER_BYTE = 1024
"""Values of a tensor per byte of its encoding by indices, at most."""
_HEADER = struct.Struct("<2sBBI")
_HAS_MODEL, _HAS_MASK, _HAS_SCALARS, _FLOAT_TYPE = 1, 2, 4, 8
_DENSE, _BITMAP, _INDICES = range(3)
_FORM = 16
_DTYPES = (
    torch.float32, torch.float64, torch.float16, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8,
    torch.bool,
)  # fmt: skip
_FLOATS = tuple(getattr(torch, name) for name in get_args(WirePrecision))
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


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


def encode(packet: Packet, layout: Layout, active: Tensor | None, precision: WirePrecision = "float32") -> bytes:
    """Encode a packet; `active` are the indices of the model's values that travel, None for all.

    Raises ContractError (`message_type`) for a tensor the wire has no code for or with a name over 255 bytes.
    """
    if not 0 <= packet.num_examples < 2**32 or len(packet.tensors) > 255:
        raise ContractError(
            "message_type",
            f"A message has {packet.num_examples} examples and {len(packet.tensors)} tensors; the wire carries at most "
            "4294967295 and 255, and no negative number.",
        )
    floats: torch.dtype = getattr(torch, precision)
    flags = _FLOAT_TYPE * _FLOATS.index(floats)
    body = []
    if packet.mask is not None:
        flags |= _HAS_MASK
        body.append(_dense(torch.cat([packet.mask[name].reshape(-1) for name in layout.prunable])))
    if packet.model is not None:
        flags |= _HAS_MODEL
        values = torch.cat([packet.model[name].reshape(-1).to(torch.float32) for name in layout.shapes]).cpu()
        body.append(_dense((values if active is None else values[active]).to(floats)))
    if packet.scalars is not None:
        flags |= _HAS_SCALARS
        body.append(struct.pack("<I", packet.scalars.numel()) + _dense(packet.scalars.to(torch.float32).to(floats)))
    body.append(struct.pack("<B", len(packet.tensors)))
    for name, tensor in packet.tensors.items():
        encoded = _encoded(name)
        if tensor.dtype not in _DTYPES or tensor.ndim > MAX_DIMENSIONS or len(encoded) > 255:
            raise ContractError(
                "message_type", f'The wire cannot carry tensor "{name[:40]}" of {tensor.dtype}, {tensor.ndim}-d.'
            )
        form, values_sent = _cheapest(tensor.to(_travelling(tensor.dtype, floats)))
        body.append(struct.pack("<B", len(encoded)) + encoded)
        body.append(struct.pack("<BB", _DTYPES.index(tensor.dtype) + _FORM * form, tensor.ndim))
        body.append(struct.pack(f"<{tensor.ndim}I", *tensor.shape))
        body.append(values_sent)
    return _HEADER.pack(MAGIC, VERSION, flags, packet.num_examples) + b"".join(body)


def _encoded(name: str) -> bytes:
    try:
        return name.encode()
    except UnicodeEncodeError:
        raise ContractError(
            "message_type", f"The wire cannot carry a tensor of the name {name[:40]!r}; give it one that is UTF-8."
        ) from None


def _travelling(dtype: torch.dtype, floats: torch.dtype) -> torch.dtype:
    """Return the type in which values of type `dtype` travel where floats do as `floats`."""
    return floats if floats != torch.float32 and dtype in (torch.float32, torch.float64) else dtype


def _bits(tensor: Tensor) -> NDArray[np.integer]:
    """Return the values [n] as integers with the same bits."""
    return tensor.detach().cpu().reshape(-1).view(_BITS[tensor.itemsize]).numpy()


def _dense(tensor: Tensor) -> bytes:
    bits = _bits(tensor)
    return (np.packbits(bits) if tensor.dtype == torch.bool else bits).tobytes()


def _width(count: int) -> int:
    """Return the bytes of an integer that holds `count`."""
    return -(-count.bit_length() // 8)


def _cheapest(tensor: Tensor) -> tuple[int, bytes]:
    """Return the form that takes least bytes, and the values in it."""
    if tensor.dtype == torch.bool:
        return _DENSE, _dense(tensor)
    bits = _bits(tensor)
    count, size, width = len(bits), bits.itemsize, _width(len(bits))
    filled = int(np.count_nonzero(bits))
    costs = [count * size, -(-count // 8) + filled * size, width + filled * (width + size)]
    if count > VALUES_PER_BYTE * costs[_INDICES]:
        del costs[_INDICES]
    form = costs.index(min(costs))
    if form == _DENSE:
        return form, bits.tobytes()
    if form == _BITMAP:
        return form, np.packbits(bits != 0).tobytes() + bits[bits != 0].tobytes()
    places = np.flatnonzero(bits)
    numbers = np.concatenate(([filled], places)).astype("<u8").view(np.uint8).reshape(-1, 8)
    return form, numbers[:, :width].tobytes() + bits[places].tobytes()


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = memoryview(data)
        self.position = 0

    def take(self, count: int) -> memoryview:
        end = self.position + count
        if end > len(self.data):
            raise WireError(f"A message ends after {len(self.data)} bytes where {end} are needed.")
        part = self.data[self.position : end]
        self.position = end
        return part

    def unpack(self, form: str) -> tuple[int, ...]:
        return struct.unpack(form, self.take(struct.calcsize(form)))

    def flags(self, count: int) -> NDArray[np.bool_]:
        packed = np.frombuffer(self.take(-(-count // 8)), dtype=np.uint8)
        return np.unpackbits(packed, count=count).view(np.bool_)

    def integers(self, count: int, width: int) -> NDArray[np.uint64]:
        narrow = np.frombuffer(self.take(count * width), dtype=np.uint8).reshape(count, width)
        wide = np.zeros((count, 8), dtype=np.uint8)
        wide[:, :width] = narrow
        return wide.view("<u8").reshape(-1)

    def values(self, dtype: torch.dtype, count: int) -> Tensor:
        if dtype == torch.bool:
            return torch.from_numpy(self.flags(count))
        raw = self.take(count * dtype.itemsize)
        return torch.frombuffer(bytearray(raw), dtype=dtype) if count else torch.empty(0, dtype=dtype)

    def tensor(self, form: int, dtype: torch.dtype, count: int) -> Tensor:
        """Return the values [n] of a tensor that travels in `form`."""
        if form == _DENSE:
            return self.values(dtype, count)
        places = self.flags(count).nonzero()[0] if form == _BITMAP else self.places(count, dtype.itemsize)
        bits, filled = _BITS[dtype.itemsize], self.values(dtype, len(places))
        whole = torch.zeros(count, dtype=dtype)
        whole.view(bits).index_copy_(0, torch.from_numpy(places), filled.view(bits))
        return whole

    def places(self, count: int, size: int) -> NDArray[np.int64]:
        """Return the ascending positions of values of `size` bytes in a tensor of `count` values."""
        width = _width(count)
        filled = int.from_bytes(self.take(width), "little")
        places = self.integers(filled, width)
        if filled and (places[-1] >= count or (places[1:] <= places[:-1]).any()):
            raise WireError(f"A message holds positions in a tensor of {count} values that do not ascend within it.")
        if count > VALUES_PER_BYTE * (width + filled * (width + size)):
            raise WireError(f"A message holds {filled} values of a tensor that says it has {count}.")
        return places.astype(np.int64)


def decode(data: bytes, layout: Layout, active: Tensor | None, device: torch.device) -> Packet:
    """Decode what `encode` wrote; pruned entries of the model are zero. Raises WireError for what is malformed."""
    reader = _Reader(data)
    magic, version, flags, num_examples = _HEADER.unpack(reader.take(_HEADER.size))
    if magic != MAGIC or version != VERSION or flags >= _FLOAT_TYPE * len(_FLOATS):
        raise WireError(f"A message starts with {data[:4]!r}, not with a header of wire version {VERSION}.")
    floats = _FLOATS[flags // _FLOAT_TYPE]
    mask = _read_mask(reader, layout, device) if flags & _HAS_MASK else None
    model = _read_model(reader, layout, active, floats, device) if flags & _HAS_MODEL else None
    scalars = None
    if flags & _HAS_SCALARS:
        (count,) = reader.unpack("<I")
        scalars = reader.values(floats, count).to(device, torch.float32)
    tensors: dict[str, Tensor] = {}
    for _ in range(reader.unpack("<B")[0]):
        name = _read_name(reader)
        if name in tensors:
            raise WireError(f"A message holds tensor {name[:40]!r} twice.")
        tensors[name] = _read_tensor(reader, floats).to(device)
    if reader.position != len(data):
        raise WireError(f"A message has {len(data) - reader.position} bytes too many.")
    return Packet(num_examples, mask, model, scalars, tensors)


def _read_mask(reader: _Reader, layout: Layout, device: torch.device) -> Mask:
    if not layout.prunable:
        raise WireError("A message holds a mask of a model that has no prunable weight.")
    sizes = [shape.numel() for shape in layout.prunable.values()]
    parts = reader.values(torch.bool, sum(sizes)).to(device).split(sizes)
    return Mask({name: part.reshape(shape) for (name, shape), part in zip(layout.prunable.items(), parts, strict=True)})


def _read_model(
    reader: _Reader, layout: Layout, active: Tensor | None, floats: torch.dtype, device: torch.device
) -> dict[str, Tensor]:
    sizes = [shape.numel() for shape in layout.shapes.values()]
    values = reader.values(floats, sum(sizes) if active is None else len(active)).to(torch.float32)
    if active is not None:
        values = torch.zeros(sum(sizes)).index_copy_(0, active, values)
    parts = values.to(device).split(sizes)
    return {name: part.reshape(shape) for (name, shape), part in zip(layout.shapes.items(), parts, strict=True)}


def _read_name(reader: _Reader) -> str:
    (length,) = reader.unpack("<B")
    try:
        return str(reader.take(length), "utf-8")
    except UnicodeDecodeError:
        raise WireError("A message holds a tensor name that is no UTF-8.") from None


def _read_tensor(reader: _Reader, floats: torch.dtype) -> Tensor:
    code, ndim = reader.unpack("<BB")
    form, dtype_code = divmod(code, _FORM)
    if dtype_code >= len(_DTYPES) or form > (_DENSE if _DTYPES[dtype_code] == torch.bool else _INDICES):
        raise WireError(f"A message holds a tensor of unknown type {code}.")
    dtype = _DTYPES[dtype_code]
    shape = reader.unpack(f"<{ndim}I")
    if ndim > MAX_DIMENSIONS or math.prod(max(size, 1) for size in shape) >= 2**60:
        raise WireError(f"A message holds a tensor of {ndim} dimensions whose sizes are no tensor's.")
    return reader.tensor(form, _travelling(dtype, floats), math.prod(shape)).to(dtype).reshape(shape)
