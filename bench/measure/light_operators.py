"""Which of torch's operators do at most a few operations an element, so that no formula of theirs is missed.

Torch's tags say so of most. The others are named whole: an operator that nobody has looked at is not light.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

aten = torch.ops.aten

LIGHT_OPERATORS = frozenset({
    "_adaptive_avg_pool2d", "_adaptive_avg_pool3d", "_amp_foreach_non_finite_check_and_unscale",
    "_batch_norm_no_update", "_batch_norm_with_update", "_batch_norm_with_update_functional", "_chunk_cat", "_ctc_loss",
    "_embedding_bag", "_embedding_bag_dense_backward", "_embedding_bag_forward_only", "_fused_adam", "_fused_adamw",
    "_fused_dropout", "_fused_rms_norm", "_fused_sgd", "_index_put_impl", "_local_scalar_dense", "_log_softmax",
    "_log_softmax_backward_data", "_masked_scale", "_masked_softmax", "_native_batch_norm_legit",
    "_native_batch_norm_legit_functional", "_native_batch_norm_legit_no_training", "_prelu_kernel", "_safe_softmax",
    "_softmax", "_softmax_backward_data", "_to_copy", "_unique2", "_unsafe_index", "_unsafe_index_put",
    "_unsafe_masked_index", "_unsafe_masked_index_put_accumulate", "_unsafe_view", "_upsample_bilinear2d_aa",
    "_weight_norm_interface", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d",
    "adaptive_max_pool2d", "adaptive_max_pool3d", "as_strided_scatter", "avg_pool1d", "avg_pool2d", "avg_pool3d",
    "batch_norm_backward", "bernoulli", "cat", "constant_pad_nd", "cudnn_batch_norm", "cumprod", "cumsum",
    "diagonal_scatter", "embedding", "embedding_dense_backward", "embedding_renorm", "empty_like", "exponential",
    "fill", "flip", "fractional_max_pool2d", "fractional_max_pool3d", "full_like", "gather", "hardswish", "huber_loss",
    "index", "index_add", "index_copy", "index_fill", "index_put", "index_reduce", "index_select", "lift", "log_normal",
    "masked_scatter", "masked_select", "max_pool2d_with_indices", "max_pool3d_with_indices", "median",
    "miopen_batch_norm", "mse_loss", "multi_margin_loss", "multilabel_margin_loss_forward", "native_batch_norm",
    "native_dropout", "native_group_norm", "native_layer_norm", "new_empty", "new_empty_strided", "new_full",
    "new_ones", "new_zeros", "nll_loss_backward", "nll_loss_forward", "nonzero", "normal", "ones_like", "rand_like",
    "randint_like", "randn_like", "repeat", "repeat_interleave", "resize", "roll", "scatter", "scatter_add",
    "scatter_reduce", "select_scatter", "set", "slice_scatter", "smooth_l1_loss", "soft_margin_loss", "sort", "stack",
    "take", "topk", "tril", "triu", "uniform", "unique_consecutive", "unique_dim", "upsample_bilinear2d",
    "upsample_nearest2d", "zero", "zeros_like",
})  # fmt: skip
"""Operators that do a few operations an element, or none, where no tag of theirs says so."""
LIGHT_TAGS = frozenset({torch.Tag.pointwise, torch.Tag.reduction})

_AS_LIGHT = ("_backward", "_copy")
"""Ends of the names of operators that are as light as what they are named after."""


@cache
def is_light(packet: Any) -> bool:
    """Return whether an operator of torch is known to do at most a few operations an element.

    An in-place form, a backward pass, a copy of a view and a form for lists of tensors are as light as the operator
    itself. What takes no tensor makes one, and multiplies none.
    """
    namespace, _, name = packet._qualified_op_name.partition("::")
    if namespace != "aten":
        return False
    arguments = [one for overload in packet.overloads() for one in getattr(packet, overload)._schema.arguments]
    if not any("Tensor" in str(argument.type) and not argument.is_out for argument in arguments):
        return True
    return any(one in LIGHT_OPERATORS or _is_tagged(one) for one in _kin(name))


def _kin(name: str) -> set[str]:
    """Return the operator's name and those of which it is a form."""
    single = name.removesuffix("_").removeprefix("_foreach_")
    return {name, single, *(single.removesuffix(end) for end in _AS_LIGHT)}


def _is_tagged(name: str) -> bool:
    packet = getattr(aten, name, None)
    overloads = [getattr(packet, overload) for overload in packet.overloads()] if packet else []
    return any(one.is_view or not LIGHT_TAGS.isdisjoint(one.tags) for one in overloads)
