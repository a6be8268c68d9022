"""Random changes of training images."""

from __future__ import annotations

import torch
from torch import Tensor


def augment(x: Tensor, generator: torch.Generator) -> Tensor:
    """Shift and mirror each image at random, as BAFFLE does for CIFAR: reflect-pad by 4, crop back, flip half of them.

    `x: [B, C, H, W]`, on any device; returns a new tensor like it. Shifts are uniform over -4..4 in both directions;
    the draws depend on B alone and are made on the generator's device.
    """
    batch, channels, *sides = x.shape
    shifts = torch.randint(-4, 5, (2, batch, 1), generator=generator, device=generator.device)
    mirrored = torch.randint(2, (batch, 1), generator=generator, device=generator.device).bool()
    rows, columns = (
        last - (last - (shift + torch.arange(last + 1, device=shift.device)).abs()).abs()
        for shift, last in zip(shifts, (side - 1 for side in sides), strict=True)
    )
    columns = torch.where(mirrored, columns.flip(1), columns)
    rows, columns = rows.to(x.device), columns.to(x.device)
    examples = torch.arange(batch, device=x.device)[:, None, None, None]
    planes = torch.arange(channels, device=x.device)[:, None, None]
    moved = x[examples, planes, rows[:, None, :, None], columns[:, None, None, :]]
    return moved.contiguous(memory_format=torch.channels_last)
