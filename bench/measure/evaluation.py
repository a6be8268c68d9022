"""The one evaluator."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fedfore.tasks.examples import Examples

BatchNorm = nn.modules.batchnorm._BatchNorm
CHUNK = 500
RECALIBRATION_EXAMPLES = 1000
"""Training examples from which batch-norm statistics are computed anew."""


@dataclass(frozen=True)
class Evaluation:
    """Accuracy (a fraction), mean cross-entropy in nats, accuracy by class [num_classes] (NaN for an absent one)."""

    accuracy: float
    loss: float
    class_accuracy: np.ndarray


@torch.no_grad()
def evaluate(model: nn.Module, examples: Examples, num_classes: int, device: torch.device) -> Evaluation:
    """Evaluate `model` in evaluation mode on all of `examples`; its mode is restored."""
    was_training = model.training
    model.eval()
    loss, predictions = 0.0, []
    for indices in torch.arange(len(examples)).split(CHUNK):
        x, y = (part.to(device) for part in examples.batch(indices))
        logits = model(x)
        loss += float(cross_entropy(logits, y, reduction="sum"))
        predictions.append(logits.argmax(1).cpu())
    model.train(was_training)
    correct = torch.cat(predictions) == examples.labels.cpu()
    totals = _count(examples.labels, num_classes)
    hits = _count(examples.labels.cpu()[correct], num_classes)
    by_class = np.divide(hits, totals, out=np.full(num_classes, np.nan), where=totals > 0)
    return Evaluation(float(correct.double().mean()), loss / len(examples), by_class)


@torch.no_grad()
def recalibrated(model: nn.Module, examples: Examples, device: torch.device) -> nn.Module | None:
    """Return a copy of `model` whose batch norms have the statistics of `examples` under its present weights.

    Running statistics lag the weights by about 1 / (momentum x local steps) rounds. These are the plain averages of
    means and unbiased variances over equal batches of at most `CHUNK` (torch's `momentum = None`). None where `model`
    keeps no running statistics.
    """
    copied = copy.deepcopy(model).eval()
    norms = [module for module in copied.modules() if isinstance(module, BatchNorm) and module.track_running_stats]
    if not norms:
        return None
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    for indices in torch.arange(len(examples)).tensor_split(-(-len(examples) // CHUNK)):
        copied(examples.batch(indices)[0].to(device))
    return copied.eval()


def label_counts(labels: Tensor, parts: Sequence[np.ndarray], num_classes: int) -> np.ndarray:
    """Return how many examples of each class every client holds: int64 [clients, num_classes]."""
    return np.stack([_count(labels[torch.from_numpy(part)], num_classes) for part in parts])


def client_accuracies(evaluation: Evaluation, counts: np.ndarray) -> np.ndarray:
    """Return for every client [C] the test accuracy with classes weighted by its own label `counts` [C, num_classes].

    A class without test examples counts as never recognised.
    """
    return counts.astype(float) @ np.nan_to_num(evaluation.class_accuracy) / counts.sum(axis=1)


def _count(labels: Tensor, num_classes: int) -> np.ndarray:
    return np.bincount(labels.cpu().numpy(), minlength=num_classes)
