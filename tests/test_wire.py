"""The wire: what is decoded is what was encoded, bytes follow a formula, and no bytes at all can do harm."""

from __future__ import annotations

import math
import struct
import time
import tracemalloc
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Size, Tensor, nn

from fedfore.cell import WirePrecision
from fedfore.errors import ContractError
from fedfore.federation.wire import VALUES_PER_BYTE, Layout, Packet, WireError, decode, encode
from fedfore.masks import Mask, random_mask, uniform_densities

CPU = torch.device("cpu")
DTYPES = (
    torch.float32, torch.float64, torch.float16, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8,
    torch.bool,
)  # fmt: skip
LAYOUT = Layout({"w1": Size([3, 5]), "b1": Size([3]), "w2": Size([2, 3])}, {"w1": Size([3, 5]), "w2": Size([2, 3])})
PRUNABLE, VALUES = 21, 24
HEADER, COUNT = 8, 1
"""Bytes: magic, version, flags and number of examples; the number of tensors."""


def a_mask(seed: int, density: float = 0.4) -> Mask:
    return random_mask(
        LAYOUT.prunable, uniform_densities(LAYOUT.prunable, density), torch.Generator().manual_seed(seed)
    )


def a_model(seed: int, mask: Mask | None) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    model = {name: torch.randn(shape, generator=generator) for name, shape in LAYOUT.shapes.items()}
    for name, layer in (mask or {}).items():
        model[name].masked_fill_(~layer, 0.0)
    return model


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    """Draw a tensor of any type the wire carries, of 0 to 4 dimensions, some of them empty, maybe not contiguous.

    Its values are any bits (NaN payloads, negative zeros, denormal numbers), any share of them zero.
    """
    shape = draw(st.lists(st.integers(0, 9), max_size=4))
    dtype = draw(st.sampled_from(DTYPES))
    generator = np.random.default_rng(draw(st.integers(0, 2**31)))
    zero = generator.random(shape) >= draw(st.floats(0, 1))
    raw = generator.bytes(math.prod(shape) * dtype.itemsize)
    tensor = torch.frombuffer(bytearray(raw or b"\0" * 8), dtype=torch.uint8)[: len(raw)]
    tensor = (tensor % 2).to(dtype) if dtype == torch.bool else tensor.view(dtype)
    tensor = tensor.reshape(shape).masked_fill(torch.from_numpy(np.asarray(zero)), 0)
    if dtype.is_floating_point and shape and draw(st.booleans()):
        tensor[..., :1].neg_()
    return tensor.T if len(shape) == 2 and draw(st.booleans()) else tensor


PACKETS = st.builds(
    Packet,
    num_examples=st.integers(0, 2**32 - 1),
    mask=st.none() | st.integers(0, 99).map(a_mask),
    model=st.none(),
    scalars=st.none() | st.lists(st.floats(width=32), max_size=20).map(lambda x: torch.tensor(x, dtype=torch.float32)),
    tensors=st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), tensors(), max_size=4),
)


PRECISIONS: tuple[WirePrecision, ...] = get_args(WirePrecision)
LOWER = PRECISIONS[1:]


def bits_of(tensor: Tensor) -> tuple[torch.dtype, Size, bytes]:
    """Return what two tensors must share to be the same, NaNs included."""
    return tensor.dtype, tensor.shape, tensor.contiguous().numpy().tobytes()


def same(one: Packet, other: Packet) -> bool:
    def plain(packet: Packet) -> tuple[object, ...]:
        maps = [m if m is None else {n: bits_of(t) for n, t in m.items()} for m in (packet.model, packet.tensors)]
        mask = None if packet.mask is None else {name: bits_of(layer) for name, layer in packet.mask.items()}
        return packet.num_examples, mask, None if packet.scalars is None else bits_of(packet.scalars), maps

    return plain(one) == plain(other)


# Round trips


@given(packet=PACKETS, active=st.none() | st.integers(0, 99).map(a_mask), seed=st.none() | st.integers(0, 99))
def test_decoding_what_was_encoded_gives_it_back(packet: Packet, active: Mask | None, seed: int | None) -> None:
    model = None if seed is None else a_model(seed, active)
    sent = Packet(packet.num_examples, packet.mask, model, packet.scalars, packet.tensors)
    indices = LAYOUT.active(active)
    assert same(decode(encode(sent, LAYOUT, indices), LAYOUT, indices, CPU), sent)


def rounded(tensor: Tensor, precision: str) -> Tensor:
    """Return what arrives of a tensor that travels in `precision`."""
    if tensor.dtype not in (torch.float32, torch.float64) or precision == "float32":
        return tensor
    return tensor.to(getattr(torch, precision)).to(tensor.dtype)


@given(packet=PACKETS, active=st.none() | st.integers(0, 99).map(a_mask), precision=st.sampled_from(LOWER))
def test_floats_alone_arrive_rounded_and_in_their_own_type(
    packet: Packet, active: Mask | None, precision: WirePrecision
) -> None:
    model, indices = a_model(3, active), LAYOUT.active(active)
    sent = Packet(packet.num_examples, packet.mask, model, packet.scalars, packet.tensors)
    expected = Packet(
        packet.num_examples,
        packet.mask,
        {name: rounded(tensor, precision) for name, tensor in model.items()},
        None if packet.scalars is None else rounded(packet.scalars, precision),
        {name: rounded(tensor, precision) for name, tensor in packet.tensors.items()},
    )
    assert same(decode(encode(sent, LAYOUT, indices, precision), LAYOUT, indices, CPU), expected)


@pytest.mark.parametrize(("precision", "arrives"), [("float16", math.inf), ("bfloat16", 65536.0)])
def test_float16_ends_where_bfloat16_does_not(precision: WirePrecision, arrives: float) -> None:
    received = decode(encode(Packet(scalars=torch.tensor([65536.0])), LAYOUT, None, precision), LAYOUT, None, CPU)
    assert received.scalars is not None
    assert received.scalars.tolist() == [arrives]


def test_pruned_values_are_not_sent_and_arrive_as_zeros() -> None:
    mask, model = a_mask(1), a_model(1, None)
    received = decode(encode(Packet(model=model), LAYOUT, LAYOUT.active(mask)), LAYOUT, LAYOUT.active(mask), CPU).model
    assert received is not None
    mask.apply_(model)
    assert all(torch.equal(received[name], model[name]) for name in model)


def test_a_layout_holds_parameters_and_float_buffers_and_knows_the_prunable_weights() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    layout = Layout.of(net)
    assert list(layout.shapes) == ["0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var"]
    assert list(layout.prunable) == ["0.weight"]
    kept = Mask({"0.weight": torch.arange(18).reshape(2, 1, 3, 3) < 5})
    assert layout.active(kept) is not None
    assert layout.active(kept).tolist() == [*range(5), *range(18, 28)]  # type: ignore[union-attr]
    assert layout.active(None) is None


# Bytes


@pytest.mark.parametrize("count", [0, 1, 500])
def test_k_scalars_cost_four_bytes_each_and_four_for_their_number(count: int) -> None:
    assert len(encode(Packet(scalars=torch.zeros(count)), LAYOUT, None)) == 4 * count + 4 + HEADER + COUNT


@pytest.mark.parametrize("density", [0.1, 0.5, 1.0])
def test_a_model_costs_four_bytes_an_active_value(density: float) -> None:
    mask = a_mask(3, density)
    active = LAYOUT.active(mask)
    sent = encode(Packet(model=a_model(0, mask)), LAYOUT, active)
    assert len(sent) == 4 * (mask.kept + VALUES - PRUNABLE) + HEADER + COUNT
    assert len(encode(Packet(model=a_model(0, None)), LAYOUT, None)) == 4 * VALUES + HEADER + COUNT


@pytest.mark.parametrize("size", [1, 7, 8, 9, 21, 64])
def test_a_mask_costs_one_bit_a_prunable_weight(size: int) -> None:
    layout = Layout({"w": Size([size])}, {"w": Size([size])})
    mask = Mask({"w": torch.ones(size, dtype=torch.bool)})
    assert len(encode(Packet(mask=mask), layout, None)) == math.ceil(size / 8) + HEADER + COUNT


def cheapest(tensor: Tensor, precision: str = "float32") -> int:
    """Return the bytes of a tensor's values in the cheapest form, counted one by one."""
    if tensor.dtype == torch.bool:
        return math.ceil(tensor.numel() / 8)
    lower = tensor.dtype in (torch.float32, torch.float64) and precision != "float32"
    values = tensor.to(getattr(torch, precision)) if lower else tensor.contiguous()
    plain, size = (values.float() if lower else values).numpy(), values.itemsize
    count, filled = tensor.numel(), sum(any(value.tobytes()) for value in plain.flat)
    width = next(width for width in range(9) if 256**width > count)
    indices = (1 + filled) * width + filled * size
    forms = [count * size, math.ceil(count / 8) + filled * size]
    return min([*forms, indices] if count <= VALUES_PER_BYTE * indices else forms)


@given(tensor=tensors(), name=st.text("aé", max_size=20), precision=st.sampled_from(PRECISIONS))
def test_a_tensor_costs_its_name_its_shape_and_its_cheapest_form(
    tensor: Tensor, name: str, precision: WirePrecision
) -> None:
    cost = 1 + len(name.encode()) + 1 + 1 + 4 * tensor.ndim + cheapest(tensor, precision)
    assert len(encode(Packet(tensors={name: tensor}), LAYOUT, None, precision)) == cost + HEADER + COUNT


@pytest.mark.parametrize(
    ("size", "kept", "values"),
    [
        (3200, 3200, 4 * 3200),  # dense
        (3200, 3100, 4 * 3100 + 400),  # a bitmap pays below 31/32
        (3200, 200, 4 * 200 + 400),
        (3200, 199, 6 * 199 + 2),  # positions of two bytes below 1/16
        (255, 15, 5 * 15 + 1),
        (256, 15, 4 * 15 + 32),  # 256 needs two bytes: 6 * 15 + 2 would be as dear
        (256, 14, 6 * 14 + 2),
        (65536, 9, 7 * 9 + 3),  # three bytes
        (65536, 8, 4 * 8 + 8192),  # 7 * 8 + 3 would be fewer than one byte for 1,024 values
    ],
)
def test_the_form_follows_the_density(size: int, kept: int, values: int) -> None:
    tensor = torch.zeros(size)
    tensor[torch.arange(kept) * (size // kept)] = 1.0
    assert len(encode(Packet(tensors={"": tensor}), LAYOUT, None)) == values + 3 + 4 + HEADER + COUNT


@pytest.mark.parametrize("precision", LOWER)
def test_a_lower_precision_shortens_the_model_and_the_scalars(precision: WirePrecision) -> None:
    mask, saved = a_mask(3), 4 - getattr(torch, precision).itemsize
    packet = Packet(model=a_model(0, mask), scalars=torch.ones(7), tensors={"seed": torch.tensor(5)})
    whole, short = (len(encode(packet, LAYOUT, LAYOUT.active(mask), p)) for p in ("float32", precision))
    assert whole - short == saved * (mask.kept + VALUES - PRUNABLE + 7) > 0


def test_parts_of_a_message_add_up() -> None:
    parts = (
        Packet(mask=a_mask(0)),
        Packet(model=a_model(0, None)),
        Packet(scalars=torch.zeros(7)),
        Packet(tensors={"seed": torch.tensor(5)}),
    )
    whole = Packet(9, parts[0].mask, parts[1].model, parts[2].scalars, parts[3].tensors)
    empty = HEADER + COUNT
    assert len(encode(whole, LAYOUT, None)) - empty == sum(len(encode(p, LAYOUT, None)) - empty for p in parts)


def test_the_bytes_of_a_message_are_those_written_in_the_format() -> None:
    layout = Layout({"w": Size([3])}, {"w": Size([3])})
    mask = Mask({"w": torch.tensor([True, False, True])})
    packet = Packet(258, mask, {"w": torch.tensor([1.0, 0.0, -2.0])}, torch.tensor([0.5]), {"s": torch.tensor(-1)})
    expected = (
        b"FF\x03\x07\x02\x01\x00\x00"
        b"\xa0"  # 1 0 1, then padding
        + struct.pack("<2f", 1.0, -2.0)
        + struct.pack("<If", 1, 0.5)
        + b"\x01\x01s\x03\x00"
        + struct.pack("<q", -1)
    )
    assert encode(packet, layout, layout.active(mask)) == expected


@pytest.mark.parametrize("code", range(len(DTYPES)))
def test_every_type_has_its_own_code(code: int) -> None:
    assert encode(Packet(tensors={"": torch.empty(0, dtype=DTYPES[code])}), LAYOUT, None)[HEADER + COUNT + 1] == code


# What the wire refuses to carry


@pytest.mark.parametrize(
    "tensor",
    [torch.ones(2, dtype=torch.bfloat16), torch.ones(2, dtype=torch.complex64), torch.ones((1,) * 70)],
    ids=["bfloat16", "complex", "70 dimensions"],
)
def test_a_tensor_without_a_code_is_refused(tensor: Tensor) -> None:
    with pytest.raises(ContractError) as caught:
        encode(Packet(tensors={"x": tensor}), LAYOUT, None)
    assert caught.value.rule == "message_type"


@pytest.mark.parametrize("name", ["x" * 256, "é" * 128])
def test_a_name_over_255_bytes_is_refused(name: str) -> None:
    assert encode(Packet(tensors={name[:127]: torch.ones(1)}), LAYOUT, None)
    with pytest.raises(ContractError):
        encode(Packet(tensors={name: torch.ones(1)}), LAYOUT, None)


def test_more_than_255_tensors_are_refused() -> None:
    one = torch.tensor(1)
    assert encode(Packet(tensors={f"t{i}": one for i in range(255)}), LAYOUT, None)
    with pytest.raises(ContractError):
        encode(Packet(tensors={f"t{i}": one for i in range(256)}), LAYOUT, None)


@pytest.mark.parametrize("count", [-1, 2**32])
def test_a_number_of_examples_that_fits_no_u32_is_refused(count: int) -> None:
    with pytest.raises(ContractError):
        encode(Packet(count), LAYOUT, None)


# Damaged messages

ACTIVE = LAYOUT.active(a_mask(5))
SPARSE = torch.zeros(3, 300)
SPARSE[1, ::60] = 1.5
WHOLE = encode(
    Packet(
        3,
        a_mask(0),
        a_model(0, a_mask(5)),
        torch.ones(4),
        {"seed": torch.tensor(1), "dense": torch.ones(2, 3), "bits": torch.ones(9).cumsum(0) % 2, "places": SPARSE},
    ),
    LAYOUT,
    ACTIVE,
)


def test_the_damaged_message_holds_every_form() -> None:
    codes = [WHOLE[WHOLE.index(name) + len(name)] for name in (b"dense", b"bits", b"places")]
    assert codes == [0, 16, 32]


def test_a_message_cut_anywhere_is_an_error() -> None:
    for length in range(len(WHOLE)):
        with pytest.raises(WireError):
            decode(WHOLE[:length], LAYOUT, ACTIVE, CPU)


@pytest.mark.parametrize("tail", [b"\0", b"FF", WHOLE])
def test_a_message_with_more_behind_it_is_an_error(tail: bytes) -> None:
    with pytest.raises(WireError, match=f"{len(tail)} bytes too many"):
        decode(WHOLE + tail, LAYOUT, ACTIVE, CPU)


@settings(max_examples=300, deadline=1000)
@given(changes=st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), min_size=1, max_size=6))
def test_a_changed_message_decodes_or_is_an_error_but_nothing_worse(changes: list[tuple[int, int]]) -> None:
    damaged = bytearray(WHOLE)
    for place, value in changes:
        damaged[place] = value
    harmless(bytes(damaged))


@settings(max_examples=200, deadline=1000)
@given(body=st.binary(max_size=60), flags=st.integers(0, 255), count=st.integers(0, 3))
def test_made_up_bytes_decode_or_are_an_error_but_nothing_worse(body: bytes, flags: int, count: int) -> None:
    harmless(b"FF\x03" + bytes([flags]) + body)
    harmless(b"FF\x03\x00\0\0\0\0" + bytes([count]) + body)
    harmless(body)


def harmless(data: bytes) -> None:
    try:
        packet = decode(data, LAYOUT, ACTIVE, CPU)
    except WireError:
        return
    assert sum(t.numel() for t in packet.tensors.values()) <= VALUES_PER_BYTE * len(data)


HUGE = 2**32 - 1


@settings(max_examples=300, deadline=1000)
@given(
    code=st.integers(0, 47),
    shape=st.lists(st.integers(0, 70_000), max_size=3),
    body=st.binary(max_size=40),
    flags=st.integers(0, 23),
)
def test_made_up_tensors_decode_or_are_an_error_but_nothing_worse(
    code: int, shape: list[int], body: bytes, flags: int
) -> None:
    head = b"FF\x03" + bytes([flags & ~7]) + b"\0\0\0\0\x01\x01x" + bytes([code, len(shape)])
    harmless(head + struct.pack(f"<{len(shape)}I", *shape) + body)


def placed(size: int, *numbers: int, values: int) -> bytes:
    """Return a message whose one tensor says that it holds the float32 1.0 at some positions, of two bytes each."""
    return (
        b"FF\x03\x00\0\0\0\0\x01\x01x"
        + struct.pack(f"<BBI{len(numbers)}H", 32, 1, size, *numbers)
        + struct.pack("<f", 1.0) * values
    )


def test_positions_are_where_the_values_go() -> None:
    received = decode(placed(1000, 2, 5, 999, values=2), LAYOUT, None, CPU).tensors["x"]
    assert received.nonzero().flatten().tolist() == [5, 999]


@pytest.mark.parametrize(
    "numbers",
    [(2, 5, 1000), (1, 1000), (2, 5, 5), (2, 6, 5), (3, 1, 3, 2)],
    ids=["beyond the end", "one beyond the end", "twice", "descending", "unsorted"],
)
def test_positions_that_do_not_ascend_within_the_tensor_are_an_error(numbers: tuple[int, ...]) -> None:
    with pytest.raises(WireError, match="do not ascend within it"):
        decode(placed(1000, *numbers, values=len(numbers) - 1), LAYOUT, None, CPU)


def test_more_positions_than_bytes_are_an_error() -> None:
    with pytest.raises(WireError, match="are needed"):
        decode(placed(1000, 999, 1, 2, values=2), LAYOUT, None, CPU)


@pytest.mark.parametrize("form", [1, 2])
def test_a_short_message_unfolds_to_little_memory(form: int) -> None:
    sizes = struct.pack("<2I", 2**29, 2**30)
    message = b"FF\x03\x00\0\0\0\0\x01\x01x" + bytes([16 * form, 2]) + sizes + b"\0" * 100
    tracemalloc.start()
    with pytest.raises(WireError):
        decode(message, LAYOUT, None, CPU)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


@pytest.mark.parametrize("code", [9, 15, 24, 40, 48, 255])
def test_a_type_or_form_that_does_not_exist_is_an_error(code: int) -> None:
    with pytest.raises(WireError, match=f"unknown type {code}"):
        decode(b"FF\x03\x00\0\0\0\0\x01\x01x" + bytes([code, 1]) + b"\0" * 40, LAYOUT, None, CPU)


def test_a_name_twice_is_an_error() -> None:
    tensor = b"\x01x\0\0" + b"\0" * 4
    assert decode(b"FF\x03\x00\0\0\0\0\x01" + tensor, LAYOUT, None, CPU).tensors["x"] == 0
    with pytest.raises(WireError, match="'x' twice"):
        decode(b"FF\x03\x00\0\0\0\0\x02" + 2 * tensor, LAYOUT, None, CPU)


def test_a_mask_of_a_model_without_prunable_weights_is_an_error() -> None:
    bare = Layout({"b": Size([2])}, {})
    with pytest.raises(WireError, match="no prunable weight"):
        decode(b"FF\x03\x02\0\0\0\0\0", bare, None, CPU)


@pytest.mark.parametrize(
    "dims",
    [(HUGE,), (HUGE,) * 4, (HUGE,) * 255, (0, *(HUGE,) * 5), (*(HUGE,) * 5, 0), (2**16,) * 4, (1,) * 255],
    ids=str,
)
def test_hostile_sizes_are_an_error_at_once_and_allocate_nothing(dims: tuple[int, ...]) -> None:
    """Their product may overflow 64 bits, or be 0 beside sizes that overflow a stride."""
    tensor = b"\x01x" + struct.pack(f"<BB{len(dims)}I", 0, len(dims), *dims)
    started = time.perf_counter()
    with pytest.raises(WireError):
        decode(b"FF\x03\x00\0\0\0\0\x01" + tensor, LAYOUT, None, CPU)
    assert time.perf_counter() - started < 1.0


def test_a_hostile_number_of_scalars_is_an_error() -> None:
    with pytest.raises(WireError, match="are needed"):
        decode(b"FF\x03\x04\0\0\0\0" + struct.pack("<I", HUGE), LAYOUT, None, CPU)


@pytest.mark.parametrize(
    ("place", "value", "sentence"),
    [
        (0, ord("G"), "header"),
        (2, 1, "header of wire version 3"),
        (3, 8 * len(PRECISIONS), "header"),
        (-26 - 8, 99, "unknown type 99"),
    ],
)
def test_a_wrong_magic_version_flag_or_type_is_named(place: int, value: int, sentence: str) -> None:
    damaged = bytearray(encode(Packet(tensors={"m": torch.ones(2, 3)}), LAYOUT, None))
    damaged[place] = value
    with pytest.raises(WireError, match=sentence):
        decode(bytes(damaged), LAYOUT, None, CPU)


def test_a_name_that_is_no_text_is_an_error() -> None:
    with pytest.raises(WireError, match="UTF-8"):
        decode(b"FF\x03\x00\0\0\0\0\x01\x01\xff\0\0" + b"\0" * 4, LAYOUT, None, CPU)
