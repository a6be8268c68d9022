"""What is lost where clients see only their own data: errors of the federated neural tangent kernel, and of masks.

All kernel errors come from one trace kernel over all clients' probes. The trace itself is no error: with common weights
tr Theta(X, X) = sum_i tr Theta(X_i, X_i). Kernels on different points are never compared entry by entry.

Arguments: `kernel: [n, n]` float64, `clients: [n]` int64, the client of each probe, 0 to C - 1, and `shares: [C]`
float64, the clients' p_i, of sum 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from fedfore.errors import ConfigError
from fedfore.masks import Mask
from fedfore.measure.ntk import empirical_ntk
from fedfore.records.probes import MIN_PROBES

POOLED_SUBSETS = 20
REASSIGNMENTS = 200


@dataclass(frozen=True)
class AgainstIid:
    """A quantity beside what it is where probes are dealt to clients at random: mean, 2.5 and 97.5% quantiles."""

    value: float
    iid: float
    iid_low: float
    iid_high: float

    @property
    def excess(self) -> float:
        """The value minus its iid mean: what is reported."""
        return self.value - self.iid


@dataclass(frozen=True)
class NtkErrors:
    """Errors of the federated kernel: see the functions of the same names.

    spectrum: that of the kernel over all clients' probes [n]. client_spectra: those of the clients' own blocks [m_i].
    """

    rel_frobenius_error: AgainstIid
    mmd2: AgainstIid
    spectrum_error: AgainstIid
    spectrum: Tensor
    client_spectra: Sequence[Tensor]


def measure(
    model: nn.Module, probes: Sequence[Tensor], shares: Sequence[float], mask: Mask | None, generator: torch.Generator
) -> NtkErrors | None:
    """Return all errors for the clients' `probes`, each [m_i, C, H, W], from one trace kernel under `mask`.

    `shares` are the clients' p_i or example counts. `generator`, on the CPU, draws the pooled subsets and the
    reassignments of probes that give the iid values. None where the kernel is zero, because the mask cuts the inputs
    off, or not finite. Raises ConfigError for a client with fewer than `MIN_PROBES` probes.
    """
    counts = [len(x) for x in probes]
    if min(counts) < MIN_PROBES:
        raise ConfigError(f"A client has {min(counts)} probes for the NTK; it needs at least {MIN_PROBES}.")
    kernel = empirical_ntk(model, torch.cat(list(probes)), mask).cpu()
    if not 0 < float(kernel.trace()) < math.inf:
        return None
    clients = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    p = torch.tensor(shares, dtype=kernel.dtype)
    p = p / p.sum()
    return NtkErrors(
        rel_frobenius_error=against_iid(lambda dealt: rel_frobenius_error(kernel, dealt), clients, generator),
        mmd2=against_iid(lambda dealt: mmd2(kernel, dealt, p), clients, generator),
        spectrum_error=against_iid(lambda dealt: spectrum_error(kernel, dealt, p, generator), clients, generator),
        spectrum=spectrum(kernel),
        client_spectra=client_spectra(kernel, clients),
    )


def against_iid(error: Callable[[Tensor], float], clients: Tensor, generator: torch.Generator) -> AgainstIid:
    """Return `error(clients)` beside its values where the same probes are dealt to the clients at random.

    The null costs no new kernel. It mixes the clients' probes in the numbers given, not by the shares p_i.
    """
    value = error(clients)
    order = [torch.randperm(len(clients), generator=generator) for _ in range(REASSIGNMENTS)]
    null = np.array([error(clients[places]) for places in order])
    low, high = np.quantile(null, (0.025, 0.975))
    return AgainstIid(value, float(null.mean()), float(low), float(high))


def rel_frobenius_error(kernel: Tensor, clients: Tensor) -> float:
    """Return the Frobenius norm of the blocks between clients, which no device can compute, over the whole kernel's.

    Descriptive: the number of clients and the probes' geometry set it, more than skew does.
    """
    between = clients[:, None] != clients
    return float(kernel[between].norm() / kernel.norm())


def mmd2(kernel: Tensor, clients: Tensor, shares: Tensor) -> float:
    """Return sum_i p_i |mu_i - mu|^2 / mean diagonal of the kernel: how far clients' NTK features are from the global.

    mu_i is the mean of J(x) over client i's data, mu = sum_i p_i mu_i. The numerator is
    sum_i p_i <mu_i, mu_i> - sum_ij p_i p_j <mu_i, mu_j>, each product the mean of a block of the kernel; those within a
    client leave the diagonal out (U-statistics, Gretton et al. 2012, JMLR 13, lemma 6), so that the numerator has no
    bias and may be negative. It is half the p-weighted mean squared MMD over pairs of clients. Needs 2 probes a client.

    This is one reading of "difference between local distributions" (arXiv 2405.04765, equation 12), whose text was not
    available.
    """
    members = one_hot(clients, len(shares)).to(kernel)
    counts = members.sum(0)
    sums = members.T @ kernel @ members
    own = members.T @ kernel.diagonal()
    products = sums / torch.outer(counts, counts)
    products.diagonal().copy_((sums.diagonal() - own) / (counts * (counts - 1)))
    spread = shares @ products.diagonal() - shares @ products @ shares
    return float(spread / kernel.diagonal().mean())


def spectrum(kernel: Tensor) -> Tensor:
    """Return the eigenvalues [..., m] of `kernel: [..., m, m]`, falling, over their sum; zeros for a zero kernel."""
    values = torch.linalg.eigvalsh(kernel).flip(-1)
    return values / values.sum(-1, keepdim=True).clamp(min=torch.finfo(values.dtype).tiny)


def client_spectra(kernel: Tensor, clients: Tensor) -> list[Tensor]:
    """Return the spectrum [m_i] of every client's own block of `kernel`."""
    own = [(clients == client).nonzero().squeeze(1) for client in range(int(clients.max()) + 1)]
    return [spectrum(kernel[i[:, None], i]) for i in own]


def spectrum_distance(a: Tensor, b: Tensor) -> float:
    """Return sum_k |a_k - b_k| of two spectra [m], between 0 and 2; only spectra of equal size can be compared."""
    return float((a - b).abs().sum())


def pooled_spectrum(kernel: Tensor, clients: Tensor, shares: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Return the mean spectrum [size] over `POOLED_SUBSETS` random subsets of all clients' probes.

    A subset's probes are drawn one after the other without replacement, with probability in proportion to p_i / m_i.
    """
    weights = (shares / torch.bincount(clients))[clients]
    subsets = torch.multinomial(weights.expand(POOLED_SUBSETS, -1), size, generator=generator)
    return spectrum(kernel[subsets[:, :, None], subsets[:, None, :]]).mean(0)


def spectrum_error(kernel: Tensor, clients: Tensor, shares: Tensor, generator: torch.Generator) -> float:
    """Return the mean over clients of the distance between the client's spectrum and the pooled one of equal size."""
    sizes = dict.fromkeys(torch.bincount(clients).tolist())
    pooled = {size: pooled_spectrum(kernel, clients, shares, size, generator) for size in sizes}
    distances = [spectrum_distance(own, pooled[len(own)]) for own in client_spectra(kernel, clients)]
    return sum(distances) / len(distances)


def layer_density_l1(a: Mask, b: Mask) -> float:
    """Return sum over layers of |difference of kept weights| / kept weights, for two masks of one model.

    Where the masks keep different totals, their mean is meant; the value lies between 0 and 2.
    """
    return sum(abs(kept - b.layer_kept[name]) for name, kept in a.layer_kept.items()) / ((a.kept + b.kept) / 2)


def mask_iou(a: Mask, b: Mask) -> float:
    """Return the weights that both masks keep over those that at least one keeps, for two masks of one model."""
    both = sum(int((layer & b[name]).sum()) for name, layer in a.items())
    return both / (a.kept + b.kept - both)


def shuffled_iou(a: Mask, b: Mask) -> float:
    """Return the expected `mask_iou` where every layer of both masks is shuffled: the value that densities alone give.

    No random numbers, and exact but for rounding (to 1e-10): a layer's overlap is hypergeometric, and the total's
    distribution is the convolution.
    """
    from scipy.signal import fftconvolve
    from scipy.stats import hypergeom

    chance = np.ones(1)
    for name, layer in a.items():
        kept = a.layer_kept[name], b.layer_kept[name]
        chance = fftconvolve(chance, np.exp(hypergeom(layer.numel(), *kept).logpmf(np.arange(min(kept) + 1))))
    both = np.arange(len(chance))
    return float(chance @ (both / (a.kept + b.kept - both)))
