"""The plug-in contract: one file, one `Method` subclass, no registration.

`Method` itself is federated averaging, so a subclass states only its difference. The harness calls the hooks, carries
every message over an encoded wire, and measures; a method never reports its own accuracy, bytes, sparsity, FLOPs,
memory or time. The rules that the harness enforces are named in the ContractError that breaking one raises; `fedfore
check` tries them all on a method.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from fedfore.cell import Cell, Phase
from fedfore.contract.client import Client
from fedfore.contract.context import ClientContext, Context, ServerContext
from fedfore.contract.exchange import Estimate, Message, Update, shares
from fedfore.errors import ContractError
from fedfore.masks import Mask
from fedfore.primitives.flat import model_tensors
from fedfore.primitives.local_sgd import LocalSGDConfig, local_sgd, weighted_mean_
from fedfore.records.look import Look

USABLE_AXES = ("sparsity", "estimator")


class Method:
    """Federated averaging (McMahan et al. 2017), and the base of every other method.

    Class attributes:
        Config: a frozen dataclass of the method's keys; defaults everywhere, types validated.
        uses: which of the axes `sparsity`, `estimator` mean something to the method.
        grows: whether a pruned weight may come back in training.
        one_setup_cohort: whether all setup rounds have the same clients; otherwise each draws its own.
        label, look: the name and the look in figures; None leaves them to the file's name and to the figures.
    `self` is read-only after construction: the server's memory is `ctx.state`, a device's is `client.state`. Classes,
    modules and the process keep nothing of a cell; the data set is not changed.

    The hooks, in the order of their calls:
        on planning: `check`, `prepare` (which also the cell calls, on its own model).
        phase `setup`, round 0: `start`, then `setup_rounds`, and that many rounds, numbered from 0.
        phase `train`, rounds from 0 to the end of the budget.
        a round of either phase: `broadcast`; on the devices `round_kind`, then `client_update` or `client_updates`;
        `aggregate`.
        phase `train`, before training and at every evaluation: `evaluation_weights`; at the milestones of diagnosis
        `estimate`.
    No other phase exists. `client_update` is also called on copies to meter what it costs.

    What the harness has to know of a method is declared, and never read from the names of keys or tensors:
        of a key, beside it in the Config (`fedfore.api.Key`): in which phase a device's cost is linear in it, whether
        it counts local steps, whether it is a period in rounds, and its value in a tiny run;
        `examples_at_once`, `centralised`, `estimate`: see there. A method that has none of it declares nothing.
    """

    Config: ClassVar[type] = LocalSGDConfig
    uses: ClassVar[frozenset[str]] = frozenset()
    grows: ClassVar[bool] = False
    one_setup_cohort: ClassVar[bool] = False
    label: ClassVar[str | None] = None
    look: ClassVar[Look | None] = None

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

    client_updates: Callable[[nn.Module, Sequence[Client], ClientContext], list[Update] | None] | None = None
    """Optional: all clients of a round at once, equal to the loop over `client_update` (rtol 1e-5, bytes exactly).

    None is that loop."""

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

    estimate: Callable[[nn.Module, Update, Client, ClientContext], Estimate | None] | None = None
    """Optional: `estimate(model, update, client, ctx)`, the gradient that a training update of one client stands for at
    the weights of `model`, those that the client received; None where this update holds none.

    The harness compares it with the true gradient, and its scalars with finite differences. Without it both are unknown
    in the record, and a simulated estimator is never certified."""

    def examples_at_once(self, phase: Phase) -> int:
        """Return how many of its examples a device holds at once in rounds of `phase`, where that is beyond a batch."""
        return 0

    def centralised(self, clients: int, *, real_inputs: bool = False) -> Any:
        """Return the Config whose setup on one client that holds all data makes the centralised mask of this method.

        It takes as many draws as `clients` take together. `real_inputs`: scored on real data, whatever this method
        scores on. None where a method's mask has no such ideal; then `train.compare_masks` compares nothing.
        """
        return None
