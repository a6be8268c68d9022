"""FedAvg that sends the sign of each weight's change, scaled by the mean change of its layer."""

import torch

from fedfore.api import Client, ClientContext, Method, Update
from fedfore.primitives.flat import model_tensors


class SignedFedAvg(Method):
    """FedAvg with the sign of each change, scaled by its layer's mean (Karimireddy et al. 2019, without feedback)."""

    def client_update(self, model: torch.nn.Module, client: Client, ctx: ClientContext) -> Update:
        before = {name: value.clone() for name, value in model_tensors(model).items()}
        sent = super().client_update(model, client, ctx)
        changes = {name: value - before[name] for name, value in sent.weights.items()}
        signed = {name: before[name] + change.abs().mean() * change.sign() for name, change in changes.items()}
        return Update(weights=signed, num_examples=sent.num_examples)
