"""Vanilla BAFFLE: backpropagation-free federated learning (Feng et al. 2023, arXiv 2301.12195)."""

from fedfore.api import BPFreeMethod


class Baffle(BPFreeMethod):
    """BAFFLE: K forward passes on perturbed weights, K scalars sent back, no backpropagation on a device.

    The defaults are the published algorithm: one seed for all clients, weights p_i, no clipping, the model of the last
    round evaluated. The paper leaves the server's optimizer open; Adam's betas (0.9, 0.99) and weight decay 5e-4 are
    the released code's, the rate 3e-3 is this suite's.

    Initial weights are `train.init`, He-normal with biases 0 unless a matrix says otherwise. The released code keeps
    PyTorch's default, `train.init = "pytorch"`: weights 0.40 to 0.41 times as large in every layer, biases that are not
    0. That scale decides comparisons: at He's, dense BAFFLE is below what it reaches at half of it, so no mask is
    judged against a dense network whose scale was not tuned (`init_scale`).

    The released code differs further: independent directions, equal weights, estimates clipped at an infinity norm of
    0.3, a moving average for evaluation, a lower rate in the first epoch, K = 100, no norm and unnormalised pixels
    (`train.input_scaling = "unit"`) on MNIST. The matrix `baffle-as-released` sets these. It keeps three differences:
    CIFAR-10's deviations are those of its pixels (0.2470, ...; 0.2023, ... there), batches are drawn by this suite's
    streams, and the `epoch` form, which the matrix does not use, has plain local steps where the release has a local
    Adam that lives through all rounds. No rate schedule exists beyond the first epoch, so a long run ends at its noise
    floor (see `BPFreeMethod`).
    """
