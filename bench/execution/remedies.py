"""What to change in a method that breaks a rule of the contract, by rule."""

from __future__ import annotations

from collections.abc import Mapping

_MEMORY = 'Keep it in ctx.state["name"] on the server, in client.state["name"] on a device.'
_MASK = "Return fedfore.api.Mask({name: boolean tensor}) with every name and shape of prunable_shapes(model)."
_MESSAGE = "Send dense tensors of numbers or booleans by name: Update(..., tensors={...}), Message({...})."

REMEDIES: Mapping[str, str] = {
    "batches": "Write client.batches(epochs=1) or client.batches(steps=10).",
    "bypass": "Leave Update.bypass to the estimators of fedfore.primitives.zeroth_order.",
    "data": "Write x = x.clone() before what changes a batch in place.",
    "definition": "Give the class a docstring and, as Config, a class under @dataclass(frozen=True).",
    "evaluation_edit": "Return {name: tensor.clone(), ...}, and change these.",
    "global_rng": "Pass generator=ctx.rng(role) on the server, generator=ctx.rng(role, client) on a device.",
    "global_state": "Put back what was changed before the hook returns, in a finally.",
    "hidden_state": _MEMORY,
    "hook_type": "See the hook's docstring in fedfore.api.Method for what it returns.",
    "linear_cost": "Or let the cost grow by the same amount with each one more.",
    "mask_edit": "Write layers = {name: kept.clone() for name, kept in ctx.mask.items()}, and return Mask(layers).",
    "mask_leak": "Call ctx.mask.apply_(tensors) before they are sent; local_sgd(..., ctx.mask) keeps zeros by itself.",
    "mask_shape": _MASK,
    "mask_type": _MASK,
    "message_type": _MESSAGE,
    "model_state": "Work on copy.deepcopy(model), or undo it before the hook returns.",
    "no_model": "Return Message(model=True) in the round before.",
    "notes": "Write ctx.note(name, value) with values that are finite, as by float(tensor).",
    "num_examples": "Write Update(client.num_examples, ...).",
    "own_metric": "Take the member out, and read the metric from the record.",
    "repeatable": "Draw all that is random from ctx.rng(role); let nothing depend on time or earlier runs.",
    "revival": "Set grows = True in the class, or keep new values where the present mask is true only.",
    "self_state": _MEMORY,
    "sparsity": "Keep round((1 - ctx.cell.sparsity) * n) of the n prunable weights, as erk_mask does.",
    "state_type": "Keep tensor.detach().clone(), numbers, texts, and lists and dicts of them.",
    "trains": "Send weights or a step that differ from what was received; local_sgd changes the model in place.",
    "vectorised": "Make client_updates return what client_update returns for each client in turn, or take it out.",
    "weights": "Write Update(client.num_examples, weights=model_tensors(model)).",
}


def remedy(rule: str) -> str:
    """Return what to change where a rule is broken; nothing for what is no rule of the contract."""
    return REMEDIES.get(rule, "")
