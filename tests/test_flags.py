"""Flags: comparisons as torch makes them, and eight of them to a byte."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedfore.primitives.flags import Comparison, compared, pack_bits, selected, spread, unpack_bits
from fedfore.streams import torch_generator


@given(st.lists(st.booleans(), min_size=1, max_size=70))
def test_flags_survive_eight_to_a_byte(flags: list[bool]) -> None:
    packed = pack_bits(torch.tensor(flags))
    assert packed.dtype == torch.uint8 and len(packed) == -(-len(flags) // 8)
    assert unpack_bits(packed, len(flags)).tolist() == flags


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@given(st.lists(st.booleans(), max_size=70))
def test_flags_select_entries_and_spread_them_again(dtype: torch.dtype, flags: list[bool]) -> None:
    flat, chosen = torch.arange(1, len(flags) + 1).to(dtype), torch.tensor(flags, dtype=torch.bool)
    entries = selected(flat, chosen)
    assert entries.tolist() == [i + 1 for i, flag in enumerate(flags) if flag]
    assert torch.equal(spread(entries, chosen), flat * chosen)


@pytest.mark.parametrize("comparison", get_args(Comparison))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_comparison_is_torchs_in_the_layout_of_what_is_compared(comparison: Comparison, dtype: torch.dtype) -> None:
    x = torch.randn(2, 3, 4, 5, generator=torch_generator(0)).to(dtype, memory_format=torch.channels_last)
    x[0, 0, 0], x[0, 1, 0], x[0, 2, 0] = torch.nan, torch.inf, -0.0
    for bound in (0.0, x[1, 0, 0, 0], x[0, 0, 0, 0]):
        flags = compared(comparison, x, bound)
        assert torch.equal(flags, getattr(torch, comparison)(x, bound)) and flags.stride() == x.stride()
