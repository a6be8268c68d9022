"""The random seed trick in bytes: what every way of exchanging a training step costs one client in one data pass.

A device that regenerates perturbations from a seed sends K scalars for a step of any size (Salimans et al. 2017,
section 2.1; BAFFLE, arXiv 2301.12195, section 3). The exchanges that people would use instead stand beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from fedfore.cell import WirePrecision
from fedfore.federation.wire import Layout, Packet, encode
from fedfore.masks import erk_mask
from fedfore.primitives.flat import active_coordinates, flat_parameters
from fedfore.primitives.server_optimizer import ServerAdamConfig, adam_step_


@dataclass(frozen=True)
class Exchange:
    """What one client sends, receives, holds and computes in one pass over its data, by one exchange.

    communication: one message each way a mini-batch (`step`), or a pass of local steps (`epoch`). device_bytes: what
    the exchange makes a device hold beside its weights and what a step computes with. regenerated: entries of
    perturbations that a device generates once more, after its forward passes, to rebuild or replay estimates.
    """

    exchange: str
    communication: str
    uplink_messages: int
    uplink_bytes: int
    downlink_messages: int
    downlink_bytes: int
    device_bytes: int
    regenerated: int


@dataclass(frozen=True)
class SeedTrick:
    """The exchanges of one model. `active_parameters` is P; `mask_bytes` is sent once, before training, 0 if dense."""

    num_parameters: int
    active_parameters: int
    steps: int
    mask_bytes: int
    exchanges: tuple[Exchange, ...]


def compare_exchanges(
    model: nn.Module,
    num_examples: int,
    batch_size: int,
    num_perturbations: int,
    sparsity: float,
    precision: WirePrecision = "float32",
) -> SeedTrick:
    """Encode every message of a data pass over `num_examples` of one client and return what it costs.

    All bytes are lengths of encoded messages of random values; a message that is sent n times is encoded once. All
    clients take part in every round and share directions, of which the server returns one weighted sum of scalars; with
    directions of its own for each of C clients, scalars down are C times as many. A client's own weights are known to
    it at the start. Random masks have ERK layer densities; on the wire only their number of weights matters.

    * `scalars up, model down`: BAFFLE as this suite runs it. Under `epoch` a device rebuilds its own estimates.
    * `scalars both ways`: no weights travel. A device replays the server's step: by Adam under `step`, whose moments it
      holds beside the estimate; under `epoch` by plain steps from a copy of the weights that the pass began with.
    * `gradient up, model down`: a device rebuilds its estimate, or the sum of a pass, and sends it.
    * `weights both ways`: FedAvg by backpropagation; under `step` FedSGD.
    * `perturbations down`: without seeds, each in a message of its own, so that a device holds one at a time.
    """
    generator = torch.Generator().manual_seed(0)
    mask = erk_mask(model, sparsity, generator)
    layout = Layout.of(model)
    active = layout.active(mask)
    parameters = flat_parameters(model)
    coordinates = active_coordinates(model, mask)
    vector = torch.randn(len(parameters) if coordinates is None else len(coordinates), generator=generator)
    values = {name: torch.randn(shape, generator=generator) for name, shape in layout.shapes.items()}
    seed = {"seed": torch.tensor(2**62)}
    moments: dict[str, torch.Tensor] = {}
    adam_step_(vector.clone(), vector, moments, ServerAdamConfig(), ServerAdamConfig.lr)

    def size(packet: Packet) -> int:
        return len(encode(packet, layout, active, precision))

    weights_up = size(Packet(num_examples, model=values))
    gradient_up = size(Packet(num_examples, tensors={"gradient": vector}))
    model_down = size(Packet(model=values))
    model_and_seed_down = size(Packet(model=values, tensors=seed))
    perturbation_down = size(Packet(tensors={"perturbation": vector}))

    steps = -(-num_examples // batch_size)
    generated = steps * num_perturbations * len(vector)
    held = vector.nbytes
    exchanges = []
    for communication, rounds, local_steps in (("step", steps, 1), ("epoch", 1, steps)):
        count = local_steps * num_perturbations
        scalars = torch.randn(count, generator=generator)
        scalars_up = size(Packet(num_examples, scalars=scalars))
        scalars_down = size(Packet(scalars=scalars, tensors=seed))
        local = communication == "epoch"
        replay = held if local else held + sum(moment.nbytes for moment in moments.values())
        own = generated if local else 0
        for exchange, up, downs, down, device_bytes, regenerated in (
            ("scalars up, model down", scalars_up, 1, model_and_seed_down, 0, own),
            ("scalars both ways", scalars_up, 1, scalars_down, replay, own + generated),
            ("gradient up, model down", gradient_up, 1, model_and_seed_down, held, generated),
            ("weights both ways", weights_up, 1, model_down, 0, 0),
            (
                "perturbations down",
                scalars_up,
                1 + count,
                model_down + count * perturbation_down,
                held * (1 + local),
                0,
            ),
        ):
            exchanges.append(
                Exchange(
                    exchange,
                    communication,
                    rounds,
                    rounds * up,
                    rounds * downs,
                    rounds * down,
                    device_bytes,
                    regenerated,
                )
            )
    mask_bytes = 0 if mask is None else size(Packet(mask=mask))
    return SeedTrick(len(parameters), len(vector), steps, mask_bytes, tuple(exchanges))
