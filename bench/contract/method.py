"""The plug-in contract: one file, one `Method` subclass, no registration.

`Method` itself is federated averaging, so a subclass states only its difference. The harness calls the hooks, carries
every message over an encoded wire, and measures; a method never reports its own accuracy, bytes, sparsity, FLOPs,
memory or time. The rules that the harness enforces are named in the ContractError that breaking one raises; `fedfore
check` tries them all on a method.
"""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar, Literal, get_type_hints

import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError
from torch import Tensor, nn

from fedfore.cell import Cell
from fedfore.contract.border import words
from fedfore.errors import ConfigError, ContractError, suggestion
from fedfore.masks import Mask
from fedfore.primitives.flat import model_tensors
from fedfore.primitives.local_sgd import LocalSGDConfig, local_sgd, weighted_mean_
from fedfore.streams import stream_seed, torch_generator

AXES = ("sparsity", "estimator")
Phase = Literal["setup", "train"]
_FINITE = ConfigDict(allow_inf_nan=False)


@dataclass(frozen=True)
class Message:
    """What the server broadcasts: the model's active values (`model`), and named tensors beside them."""

    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    model: bool = True


@dataclass(frozen=True)
class Update:
    """What a client sends up.

    weights: parameters and float buffers by name, each in its own shape, zero where the mask prunes; only active values
    are encoded. scalars: a vector (count,) of real numbers, encoded as float32. tensors: whatever else, by name, of any
    shape. num_examples: the size of the client's share.
    bypass: what a simulating estimator hands to the server beside the wire; allowed where the record says `simulated`.
    """

    num_examples: int
    weights: Mapping[str, Tensor] | None = None
    scalars: Tensor | None = None
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    bypass: Any = None


def shares(updates: Sequence[Update]) -> list[float]:
    """Return every update's share p_i of the cohort's examples."""
    total = sum(update.num_examples for update in updates)
    return [update.num_examples / total for update in updates]


@dataclass
class Client:
    """A device: its share of the data, drawn in shuffled epochs, and `state`, a dict that it keeps between rounds.

    `state` holds tensors, numbers and strings; its bytes count as the device's memory.
    """

    id: int
    num_examples: int
    state: dict[str, Any]
    _batch: Callable[[Tensor, torch.Generator], tuple[Tensor, Tensor]] = field(repr=False)
    _batch_size: int = field(repr=False)
    _stream: Callable[[int], int] = field(repr=False)
    _epoch: int = field(default=-1, repr=False)
    _order: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long), repr=False)
    _generator: torch.Generator = field(default_factory=torch.Generator, repr=False)
    examples_drawn: int = 0
    batches_drawn: int = 0

    def batches(self, *, epochs: int | None = None, steps: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield mini-batches (x [B, C, H, W] float32, y [B] int64): whole `epochs`, or a number of `steps`.

        The last batch of an epoch may be smaller; nothing is dropped. A client that draws less than an epoch goes on
        from there next time. Raises ContractError (`batches`) unless exactly one of the two is given.
        """
        if (epochs is None) == (steps is None):
            raise ContractError("batches", "client.batches() takes exactly one of epochs= and steps=.")
        per_epoch = -(-self.num_examples // self._batch_size)
        for _ in range(steps if steps is not None else (epochs or 0) * per_epoch):
            if len(self._order) == 0:
                self._epoch += 1
                self._generator = torch_generator(self._stream(self._epoch))
                self._order = torch.randperm(self.num_examples, generator=self._generator)
            chosen, self._order = self._order[: self._batch_size], self._order[self._batch_size :]
            self.examples_drawn += len(chosen)
            self.batches_drawn += 1
            yield self._batch(chosen, self._generator)


@dataclass(frozen=True)
class Context:
    """What both sides know: the cell, the phase (`setup` or `train`), the round within it, the mask.

    progress: the fraction of the training budget spent before this round, in [0, 1). device: where tensors live.
    input_shape: of one example, [C, H, W].

    To judge zeroth-order estimates the harness rehearses the training round that comes next, and after the last one
    more: `broadcast` and `client_update`, with a cohort of one, on copies of the model and of both states.
    """

    cell: Cell
    phase: Phase
    round: int
    mask: Mask | None
    progress: float
    device: torch.device
    input_shape: tuple[int, int, int]
    initialise: Callable[[nn.Module, torch.Generator], None] = field(repr=False)


@dataclass(frozen=True)
class ServerContext(Context):
    """The server's view. `state` is its memory between rounds; `cohort` the ids of this round's clients, in order.

    What a method wants to tell of itself, such as a choice it made, it puts into the dict `state["notes"]` as numbers,
    strings and lists of them: they are stored beside the record and enter no metric. `variant`, a phrase, says that the
    method is not in its published form here, and stands behind its name in tables and figures.
    """

    state: dict[str, Any] = field(default_factory=dict)
    cohort: tuple[int, ...] = ()

    def seed(self, role: str) -> int:
        """Return the 63-bit seed of this round's stream `role`; sent in a message, its bytes are counted."""
        return stream_seed(self.cell.seed, role, self.phase, self.round)

    def rng(self, role: str) -> torch.Generator:
        """Return this round's generator of stream `role`."""
        return torch_generator(self.seed(role))


@dataclass(frozen=True)
class ClientContext(Context):
    """A device's view: no server state, and of the server's words only the decoded tensors in `received`."""

    received: Mapping[str, Tensor] = field(default_factory=dict)

    def rng(self, role: str, client: Client) -> torch.Generator:
        """Return this round's generator of stream `role` for one client."""
        return torch_generator(stream_seed(self.cell.seed, role, self.phase, self.round, client.id))


class Method:
    """Federated averaging (McMahan et al. 2017), and the base of every other method.

    Class attributes:
        Config: a frozen dataclass of the method's keys; defaults everywhere, types validated.
        uses: which of the axes `sparsity`, `estimator` mean something to the method.
        grows: whether a pruned weight may come back in training.
        one_setup_cohort: whether all setup rounds have the same clients; otherwise each draws its own.
    `self` is read-only after construction: the server's memory is `ctx.state`, a device's is `client.state`. Classes,
    modules and the process keep nothing of a cell; the data set is not changed.

    The hooks, in the order of their calls:
        on planning: `check`, `prepare` (which also the cell calls, on its own model).
        phase `setup`, round 0: `start`, then `setup_rounds`, and that many rounds, numbered from 0.
        phase `train`, rounds from 0 to the end of the budget.
        a round of either phase: `broadcast`; on the devices `round_kind`, then `client_update` or `client_updates`;
        `aggregate`.
        phase `train`, before training and at every evaluation: `evaluation_weights`.
    No other phase exists. `client_update` is also called on copies to meter what it costs.
    """

    Config: ClassVar[type] = LocalSGDConfig
    uses: ClassVar[frozenset[str]] = frozenset()
    grows: ClassVar[bool] = False
    one_setup_cohort: ClassVar[bool] = False

    def __init__(self, config: Any) -> None:
        self.config = config

    def __setattr__(self, name: str, value: object) -> None:
        if self.__dict__.get("_sealed"):
            raise ContractError(
                "self_state",
                f"{type(self).__name__} sets self.{name} after construction; keep it in ctx.state or client.state.",
            )
        super().__setattr__(name, value)

    def check(self, cell: Cell) -> None:
        """Raise `Skip("reason")` where the method does not apply; called before any data is loaded."""

    def prepare(self, model: nn.Module) -> nn.Module:
        """Return the model with a structural change that both sides, the evaluator and the meters see."""
        return model

    def start(self, model: nn.Module, ctx: ServerContext) -> Mask | None:
        """Return the first mask, before anything is sent; None is dense."""
        return None

    def setup_rounds(self, cell: Cell) -> int:
        """Return the number of federated rounds before training; a cell of sparsity 0 skips them.

        In these rounds a device that has received no model yet holds NaN for every weight that is not frozen.
        """
        return 0

    def round_kind(self, ctx: Context) -> str:
        """Return the kind of this round: rounds of one kind cost a device the same."""
        return ctx.phase

    def broadcast(self, model: nn.Module, ctx: ServerContext) -> Message:
        """Return what the server sends to every client of the cohort."""
        return Message()

    def client_update(self, model: nn.Module, client: Client, ctx: ClientContext) -> Update:
        """Work on one device, whose `model` holds what it received, and return what goes up."""
        config = self.config
        epochs = None if config.local_steps else (config.local_epochs or 1)
        batches = client.batches(epochs=epochs, steps=config.local_steps)
        local_sgd(model, batches, config, config.lr_at(ctx.round, ctx.progress), ctx.mask)
        return Update(weights=model_tensors(model), num_examples=client.num_examples)

    client_updates: Callable[[nn.Module, Sequence[Client], ClientContext], list[Update]] | None = None
    """Optional: all clients of a round at once, equal to the loop over `client_update` (rtol 1e-5, bytes exactly)."""

    def aggregate(self, model: nn.Module, updates: Sequence[Update], ctx: ServerContext) -> Mask | None:
        """Change the server's model from the decoded updates; return a new mask, or None to keep the present one."""
        received = [update.weights for update in updates if update.weights is not None]
        if len(received) < len(updates):
            raise ContractError(
                "weights",
                f"{type(self).__name__} averages weights, and a client sent none; write aggregate, or send them.",
            )
        weighted_mean_(model, received, shares(updates))
        return None

    def evaluation_weights(self, model: nn.Module, ctx: ServerContext) -> Mapping[str, Tensor] | None:
        """Return other weights to evaluate, such as a moving average, by name; None evaluates the model."""
        return None


def make_config(method: type[Method], given: Mapping[str, Any], where: str) -> Any:
    """Return the method's validated Config; `where` names its table in messages, such as `params.fedavg`.

    Raises ConfigError for an unknown key, a wrong type or a value out of range.
    """
    return validated(method.Config, given, where)


def validated(kind: type, given: Mapping[str, Any], where: str) -> Any:
    """Return the frozen dataclass `kind` made from `given`, strictly typed; raise ConfigError with one sentence."""
    known = [item.name for item in dataclasses.fields(kind)]
    for key in given:
        if key not in known:
            raise ConfigError(f'[{where}] has no key "{key}".{suggestion(key, known)}')
    values = {}
    for key, value in given.items():
        plain = tuple(value) if isinstance(value, list) else value
        try:
            values[key] = _adapter(kind, key).validate_python(plain, strict=True)
        except ValidationError as error:
            raise ConfigError(f"{where}.{key} = {value!r}: {_lower(error.errors()[0]['msg'])}.") from None
    try:
        return kind(**values)
    except ValueError as error:
        raise ConfigError(f"[{where}]: {error}.") from None
    except Exception as error:
        raise ConfigError(f"[{where}]: {words(error)}.") from error


@cache
def _adapter(kind: type, key: str) -> TypeAdapter[Any]:
    return TypeAdapter(_hints(kind)[key], config=_FINITE)


@cache
def _hints(kind: type) -> Mapping[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _lower(sentence: str) -> str:
    return sentence[0].lower() + sentence[1:]


def instantiate(method: type[Method], params: Mapping[str, Any]) -> Method:
    """Return a sealed instance. Raises ContractError (`self_state`) where its attributes are no plain data."""
    instance = method(make_config(method, params, f"params.{method.__name__}"))
    instance.__dict__["_sealed"] = True
    fingerprint(instance)
    return instance


def fingerprint(instance: Method) -> bytes:
    """Return the instance's attributes as bytes, to see whether a hook changed them."""
    try:
        return pickle.dumps({**vars(instance), "config": dataclasses.asdict(instance.config)})
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ContractError(
            "self_state", f"{type(instance).__name__} keeps on self what is no plain data ({error})."
        ) from None
