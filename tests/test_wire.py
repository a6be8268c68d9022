"""The wire: what is decoded is what was encoded, bytes follow a formula, and no bytes at all can do harm."""

from __future__ import annotations

import math
import struct
import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Size, Tensor, nn

from bench.errors import ContractError
from bench.masks import Mask, random_mask, uniform_densities
from bench.wire import Layout, Packet, WireError, decode, encode

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
    """Draw a tensor of any type the wire carries, of 0 to 4 dimensions, some of them empty, maybe not contiguous."""
    shape = draw(st.lists(st.integers(0, 4), max_size=4))
    dtype = draw(st.sampled_from(DTYPES))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    tensor = torch.randint(0, 2 if dtype == torch.bool else 100, shape, generator=generator).to(dtype)
    return tensor.T if len(shape) == 2 and draw(st.booleans()) else tensor


PACKETS = st.builds(
    Packet,
    num_examples=st.integers(0, 2**32 - 1),
    mask=st.none() | st.integers(0, 99).map(a_mask),
    model=st.none(),
    scalars=st.none() | st.lists(st.floats(width=32), max_size=20).map(lambda x: torch.tensor(x, dtype=torch.float32)),
    tensors=st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), tensors(), max_size=4),
)


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


@given(tensor=tensors(), name=st.text("aé", max_size=20))
def test_a_tensor_costs_its_values_its_name_and_its_shape(tensor: Tensor, name: str) -> None:
    bits = tensor.numel() * (1 if tensor.dtype == torch.bool else 8 * tensor.element_size())
    cost = 1 + len(name.encode()) + 1 + 1 + 4 * tensor.ndim + math.ceil(bits / 8)
    assert len(encode(Packet(tensors={name: tensor}), LAYOUT, None)) == cost + HEADER + COUNT


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
        b"FF\x02\x07\x02\x01\x00\x00"
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
WHOLE = encode(
    Packet(3, a_mask(0), a_model(0, a_mask(5)), torch.ones(4), {"seed": torch.tensor(1), "m": torch.ones(2, 3)}),
    LAYOUT,
    ACTIVE,
)


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
    harmless(b"FF\x02" + bytes([flags]) + body)
    harmless(b"FF\x02\x00\0\0\0\0" + bytes([count]) + body)
    harmless(body)


def harmless(data: bytes) -> None:
    try:
        packet = decode(data, LAYOUT, ACTIVE, CPU)
    except WireError:
        return
    assert sum(t.numel() * t.element_size() for t in packet.tensors.values()) <= 8 * len(data)


HUGE = 2**32 - 1


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
        decode(b"FF\x02\x00\0\0\0\0\x01" + tensor, LAYOUT, None, CPU)
    assert time.perf_counter() - started < 1.0


def test_a_hostile_number_of_scalars_is_an_error() -> None:
    with pytest.raises(WireError, match="are needed"):
        decode(b"FF\x02\x04\0\0\0\0" + struct.pack("<I", HUGE), LAYOUT, None, CPU)


@pytest.mark.parametrize(
    ("place", "value", "sentence"),
    [(0, ord("G"), "header"), (2, 1, "header of wire version 2"), (3, 8, "header"), (-26 - 8, 99, "unknown type 99")],
)
def test_a_wrong_magic_version_flag_or_type_is_named(place: int, value: int, sentence: str) -> None:
    damaged = bytearray(encode(Packet(tensors={"m": torch.ones(2, 3)}), LAYOUT, None))
    damaged[place] = value
    with pytest.raises(WireError, match=sentence):
        decode(bytes(damaged), LAYOUT, None, CPU)


def test_a_name_that_is_no_text_is_an_error() -> None:
    with pytest.raises(WireError, match="UTF-8"):
        decode(b"FF\x02\x00\0\0\0\0\x01\x01\xff\0\0" + b"\0" * 4, LAYOUT, None, CPU)
