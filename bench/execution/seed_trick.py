"""The random seed trick in bytes: what every way of exchanging a training step costs one client in one data pass.

A device that regenerates perturbations from a seed sends K scalars for a step of any size (Salimans et al. 2017,
section 2.1; BAFFLE, arXiv 2301.12195, section 3). The exchanges that people would use instead stand beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

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


@dataclass(frozen=True)
class Steps:
    """How one client trains: examples a step, K perturbations a step, the mask's sparsity, the type of floats sent."""

    batch_size: int
    num_perturbations: int
    sparsity: float = 0.0
    precision: WirePrecision = "float32"


def compare_exchanges(model: nn.Module, num_examples: int, train: Steps) -> SeedTrick:
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
    mask = erk_mask(model, train.sparsity, generator)
    layout = Layout.of(model)
    active = layout.active(mask)
    coordinates = active_coordinates(model, mask)
    num_parameters = len(flat_parameters(model))
    vector = torch.randn(num_parameters if coordinates is None else len(coordinates), generator=generator)
    values = {name: torch.randn(shape, generator=generator) for name, shape in layout.shapes.items()}

    def size(packet: Packet) -> int:
        return len(encode(packet, layout, active, train.precision))

    steps = -(-num_examples // train.batch_size)
    by_step = _Round("step", steps, train.num_perturbations)
    by_epoch = _Round("epoch", 1, steps * train.num_perturbations)
    exchanges = [
        exchange
        for one in (by_step, by_epoch)
        for exchange in _exchanges(one, _Sizes.of(size, num_examples, one.scalars, values, vector), vector)
    ]
    mask_bytes = 0 if mask is None else size(Packet(mask=mask))
    return SeedTrick(num_parameters, len(vector), steps, mask_bytes, tuple(exchanges))


@dataclass(frozen=True)
class _Round:
    """A way to cut a data pass: a number of rounds, each with so many scalars up."""

    communication: str
    rounds: int
    scalars: int

    def exchange(
        self, name: str, up: int, down: int, *, downs: int = 1, device_bytes: int = 0, regenerated: int = 0
    ) -> Exchange:
        """Return what an exchange costs whose every round sends `up` bytes, and `down` in `downs` messages."""
        return Exchange(
            exchange=name,
            communication=self.communication,
            uplink_messages=self.rounds,
            uplink_bytes=self.rounds * up,
            downlink_messages=self.rounds * downs,
            downlink_bytes=self.rounds * down,
            device_bytes=device_bytes,
            regenerated=regenerated,
        )


@dataclass(frozen=True)
class _Sizes:
    """Encoded lengths, in bytes, of the messages that a round may send."""

    scalars_up: int
    gradient_up: int
    weights_up: int
    model_down: int
    model_and_seed_down: int
    scalars_down: int
    perturbation_down: int

    @classmethod
    def of(
        cls,
        size: Callable[[Packet], int],
        num_examples: int,
        num_scalars: int,
        values: Mapping[str, Tensor],
        vector: Tensor,
    ) -> _Sizes:
        scalars, seed = torch.zeros(num_scalars), {"seed": torch.tensor(2**62)}
        return cls(
            scalars_up=size(Packet(num_examples, scalars=scalars)),
            gradient_up=size(Packet(num_examples, tensors={"gradient": vector})),
            weights_up=size(Packet(num_examples, model=values)),
            model_down=size(Packet(model=values)),
            model_and_seed_down=size(Packet(model=values, tensors=seed)),
            scalars_down=size(Packet(scalars=scalars, tensors=seed)),
            perturbation_down=size(Packet(tensors={"perturbation": vector})),
        )


def _exchanges(one: _Round, sizes: _Sizes, vector: Tensor) -> Iterator[Exchange]:
    """Yield the exchanges of a round; an estimate, a perturbation and a copy of the weights are as long as `vector`."""
    local, held = one.communication == "epoch", vector.nbytes
    generated = one.rounds * one.scalars * len(vector)
    own = generated if local else 0
    replay = held if local else held + _adam_bytes(vector)
    perturbations = sizes.model_down + one.scalars * sizes.perturbation_down
    yield one.exchange("scalars up, model down", sizes.scalars_up, sizes.model_and_seed_down, regenerated=own)
    yield one.exchange(
        "scalars both ways", sizes.scalars_up, sizes.scalars_down, device_bytes=replay, regenerated=own + generated
    )
    yield one.exchange(
        "gradient up, model down",
        sizes.gradient_up,
        sizes.model_and_seed_down,
        device_bytes=held,
        regenerated=generated,
    )
    yield one.exchange("weights both ways", sizes.weights_up, sizes.model_down)
    yield one.exchange(
        "perturbations down",
        sizes.scalars_up,
        perturbations,
        downs=1 + one.scalars,
        device_bytes=held * (1 + local),
    )


def _adam_bytes(vector: Tensor) -> int:
    """Return the bytes of the moments that the server's Adam keeps of a model of this length."""
    moments: dict[str, Tensor] = {}
    adam_step_(vector.clone(), vector, moments, ServerAdamConfig(), ServerAdamConfig.lr)
    return sum(moment.nbytes for moment in moments.values())
