"""The numbers of a record, by what they measure: unit, direction, label and meaning of each stand here alone.

To add one, add its field here and measure it. Pure data: no torch, no computation.
"""

from __future__ import annotations

from dataclasses import dataclass

from fedfore.records.probes import (
    HEADLINE_EVALUATIONS,
    HEADLINE_SHARE,
    MILESTONES_TEXT,
    MIN_PROBES,
    MOST_CLIENTS,
    SCALAR_DIRECTIONS,
)
from fedfore.records.rows import FRACTION, Number, measured

# fmt: off


@dataclass(frozen=True, kw_only=True)
class Learnt:
    """What was learnt, and how far training went; accuracies are of the global model on the test set."""

    test_accuracy: Number = measured("fraction", "higher", "Test accuracy",
        "Headline: mean test accuracy of the global model over the evaluations in the last "
        f"{HEADLINE_SHARE:.0%} of the budget, {HEADLINE_EVALUATIONS} at least; where fewer rounds lie there, over the "
        f"last {HEADLINE_EVALUATIONS} rounds. Fixed before running; null in records of schemas 1 and 2.", FRACTION)
    chance_accuracy: Number = measured("fraction", "descriptive", "Chance accuracy",
        "1 / classes of the data set: what a cell counts as that failed, diverged or ran out of time or memory.",
        FRACTION)
    test_accuracy_last5: Number = measured("fraction", "higher", "Test accuracy, last five",
        f"Mean test accuracy over the last {HEADLINE_EVALUATIONS} evaluations, however much of training they span: the "
        "headline of records of schemas 1 and 2, null in later ones.", FRACTION)
    test_accuracy_span: Number = measured("fraction", "descriptive", "Span of the headline",
        "Share of the budget from the first to the last of the evaluations of which test_accuracy is the mean, and in "
        "trials of tuning validation_accuracy.")
    final_test_accuracy: Number = measured("fraction", "higher", "Final test accuracy",
        "Test accuracy of the global model at the last evaluation.", FRACTION)
    best_test_accuracy: Number = measured("fraction", "higher", "Best test accuracy",
        "Highest test accuracy over all evaluations; chosen on test data, so never used in a verdict.", FRACTION)
    test_accuracy_recalibrated: Number = measured("fraction", "higher", "Test accuracy, batch norm recalibrated",
        "Like test_accuracy, with batch-norm statistics computed anew at each evaluation from 1,000 training examples; "
        f"in records of schemas 1 and 2 over the last {HEADLINE_EVALUATIONS} evaluations. Null unless "
        "train.recalibrate, and without batch norm.", FRACTION)
    test_loss: Number = measured("nats", "lower", "Test loss",
        "Mean cross-entropy on the test set at the last evaluation.")
    validation_accuracy: Number = measured("fraction", "higher", "Validation accuracy",
        "Mean validation accuracy over the evaluations of which test_accuracy is the mean; in records of schemas 1 and "
        f"2 over the last {HEADLINE_EVALUATIONS} evaluations. Null without a validation set.", FRACTION)
    client_accuracy_mean: Number = measured("fraction", "higher", "Mean accuracy over clients",
        "Mean over clients of the global model's last test accuracy, classes reweighted to the client's own label "
        "distribution.", FRACTION)
    client_accuracy_min: Number = measured("fraction", "higher", "Worst client's accuracy",
        "Smallest of the clients' reweighted test accuracies at the last evaluation.", FRACTION)
    client_accuracy_p10: Number = measured("fraction", "higher", "Accuracy at the clients' 10% quantile",
        "10% quantile, linear between clients, of the clients' reweighted test accuracies at the last evaluation.",
        FRACTION)
    data_passes: Number = measured("passes", "descriptive", "Data passes",
        "Examples drawn by clients in training / examples of all clients.")
    budget_used: Number = measured("fraction", "descriptive", "Share of the budget used",
        "What training spent / the budget of data passes or rounds that the protocol sets: above 1 where the last "
        "round went past it. Null without a budget.")
    server_updates: Number = measured("updates", "lower", "Server updates",
        "Training rounds, each ending in one aggregation.")
    setup_rounds: Number = measured("rounds", "lower", "Setup rounds", "Federated rounds before training.")


@dataclass(frozen=True, kw_only=True)
class Computation:
    """What computing costs: one multiply-accumulate (MAC) is two FLOPs."""

    forward_macs_dense: Number = measured("MACs", "lower", "Forward MACs, dense",
        "Multiply-accumulates of convolutions and matrix products in one forward pass of one example.")
    forward_macs_masked: Number = measured("MACs", "lower", "Forward MACs, masked",
        "The same, each layer scaled by its measured mask density at the end of training.")
    device_step_flops: Number = measured("FLOPs", "lower", "Device-step FLOPs",
        "FLOPs (2 x MACs) that one batch of a device's real update takes, by the on-device algorithm, masked "
        "weights not counted. What a round adds, such as an adjustment's dense gradients, is in the totals only.")
    device_setup_flops: Number = measured("FLOPs", "lower", "Setup-round FLOPs of a device",
        "The same of the setup round with the highest peak, on one batch where it draws any; for foresight pruning "
        "the first round, in which nothing is pruned yet.")
    metered_batch: Number = measured("examples", "descriptive", "Metered batch",
        "Examples of the batch on which a device was metered, the largest that any client can draw: the protocol's "
        "batch size, or all examples of the largest client where that holds fewer. FLOPs of a step and peaks are "
        "of it.")
    train_flops_total: Number = measured("FLOPs", "lower", "Training FLOPs",
        "Device FLOPs summed over clients and training rounds: metered cost of the round's kind x batches drawn.")
    setup_flops_total: Number = measured("FLOPs", "lower", "Setup FLOPs", "The same over the setup rounds.")
    perturbation_ops: Number = measured("operations", "lower", "Perturbation operations",
        "Floating-point numbers written while a device draws, scales, adds and removes perturbations in one update "
        "on one batch; the generator's integers and the FLOPs are apart.")


@dataclass(frozen=True, kw_only=True)
class Memory:
    """What a device has to hold: live tensor bytes at their peak, and its shares."""

    peak_device_bytes: Number = measured("bytes", "lower", "Peak device bytes",
        "Peak of live tensor bytes of a device, maximum over setup and training.")
    peak_device_bytes_setup: Number = measured("bytes", "lower", "Peak device bytes, setup",
        "The peak of the setup rounds.")
    peak_device_bytes_train: Number = measured("bytes", "lower", "Peak device bytes, training",
        "The peak of the training rounds.")
    peak_device_bytes_parameters: Number = measured("bytes", "lower", "parameters and buffers",
        "Share of the peak: the model's parameters and buffers.")
    peak_device_bytes_gradients: Number = measured("bytes", "lower", "gradients",
        "Share of the peak: parameters' gradients.")
    peak_device_bytes_activations: Number = measured("bytes", "lower", "activations",
        "Share of the peak: inputs, activations and temporary tensors.")
    peak_device_bytes_perturbation: Number = measured("bytes", "lower", "perturbation",
        "Share of the peak: perturbations.")
    peak_device_bytes_optimizer: Number = measured("bytes", "lower", "optimizer and client state",
        "Share of the peak: local optimizer state and the client's kept state.")
    peak_device_bytes_messages: Number = measured("bytes", "lower", "messages",
        "Share of the peak: received tensors and the mask.")
    peak_device_bytes_sparse: Number = measured("bytes", "lower", "Peak device bytes, sparse storage",
        "The peak with each masked parameter in its cheapest storage (dense, bitmap + values, COO, CSR).")


@dataclass(frozen=True, kw_only=True)
class Communication:
    """What travels, in encoded bytes of whole messages."""

    uplink_bytes: Number = measured("bytes", "lower", "Uplink bytes",
        "Encoded bytes from clients to server, all rounds; floats travel in train.wire_precision.")
    downlink_bytes: Number = measured("bytes", "lower", "Downlink bytes",
        "Encoded bytes from server to clients, all rounds, counted once per receiver; floats likewise.")
    uplink_bytes_setup: Number = measured("bytes", "lower", "Uplink bytes, setup", "The setup rounds' share.")
    downlink_bytes_setup: Number = measured("bytes", "lower", "Downlink bytes, setup", "The setup rounds' share.")
    uplink_bytes_train: Number = measured("bytes", "lower", "Uplink bytes, training", "The training rounds' share.")
    downlink_bytes_train: Number = measured("bytes", "lower", "Downlink bytes, training", "The training rounds' share.")
    uplink_bytes_per_client_round: Number = measured("bytes", "lower", "Uplink bytes per client and round",
        "uplink_bytes_train / (clients x training rounds that took part).")
    downlink_bytes_per_client_round: Number = measured("bytes", "lower", "Downlink bytes per client and round",
        "downlink_bytes_train / (clients x training rounds that took part).")


@dataclass(frozen=True, kw_only=True)
class Masks:
    """What the mask leaves of the model, and how it moves."""

    num_parameters: Number = measured("parameters", "descriptive", "Parameters", "Trainable parameters of the model.")
    num_prunable: Number = measured("parameters", "descriptive", "Prunable weights",
        "Weights of convolutions and linear layers.")
    sparsity_measured: Number = measured("fraction", "descriptive", "Sparsity",
        "Zeros / prunable weights at the end: of the mask, or of the weights where there is no mask.", FRACTION)
    sparsity_all_parameters: Number = measured("fraction", "descriptive", "Sparsity over all parameters",
        "Pruned weights / all trainable parameters.", FRACTION)
    layer_density_min: Number = measured("fraction", "descriptive", "Lowest layer density",
        "Density of the sparsest prunable layer.", FRACTION)
    churn: Number = measured("fraction", "lower", "Churn",
        "Weights pruned by an adjustment that were grown when their layer last grew any / weights pruned in layers "
        "that had grown any; mean over adjustments. Null for a mask that does not move. Above one half, "
        "most of what is pruned was grown just before, and nothing follows about moving a mask.", FRACTION)
    headline_mask_changes: Number = measured("adjustments", "descriptive", "Adjustments inside the headline",
        "Changes of the mask between the first and the last of the evaluations of which test_accuracy is the mean; "
        "null without a mask, and in records of schemas 1 and 2.")
    mask_moved: Number = measured("fraction", "descriptive", "Moved weights",
        "Kept weights at the end that the first mask of training pruned / kept weights; null without a mask.", FRACTION)


@dataclass(frozen=True, kw_only=True)
class Partition:
    """How the training examples are dealt to the clients."""

    label_skew_tv: Number = measured("fraction", "descriptive", "Label skew (total variation)",
        "Size-weighted mean over clients of the total-variation distance between the client's label distribution "
        "and the pooled one.", FRACTION)
    min_client_examples: Number = measured("examples", "descriptive", "Smallest client",
        "Training examples of the smallest client.")


@dataclass(frozen=True, kw_only=True)
class Gradients:
    """How good estimates of gradients are."""

    grad_rel_error: Number = measured("ratio", "lower", "Relative gradient error",
        "|g_hat - g| / |g| of one client's estimate on a fixed probe batch, over active coordinates; mean over "
        f"{MILESTONES_TEXT} of the budget, where it is defined and finite. Null for methods that send no estimate.")
    grad_cosine: Number = measured("cosine", "higher", "Gradient cosine",
        "Cosine of g_hat and g, likewise.", (-1.0, 1.0))
    fd_scalar_error: Number = measured("ratio", "lower", "Finite-difference scalar error",
        "Relative difference between finite-difference scalars and their limit sigma -> 0 over "
        f"{SCALAR_DIRECTIONS} directions, the largest at {MILESTONES_TEXT} of the budget. Null where it was not "
        "measured or not finite at one of them. Whether a simulated estimator is certified is a matter of all "
        "seeds together.")
    variance_ratio_start: Number = measured("ratio", "descriptive", "Variance, shared / independent, at the start",
        "|sum p_i g_i|^2 / sum p_i^2 |g_i|^2 over clients: what shared perturbations cost in variance against "
        "independent ones, before training. Null where no client has a gradient, or none that is finite.")
    variance_ratio_end: Number = measured("ratio", "descriptive", "Variance, shared / independent, at the end",
        "The same after training; below 1 where clients disagree.")
    grad_energy_kept: Number = measured("fraction", "higher", "Gradient energy kept",
        "|m.g|^2 / |g|^2 over prunable weights at the dense weights that the method starts from, on probe data. "
        "Null where there is no gradient, or none that is finite.", FRACTION)
    grad_energy_masked_point: Number = measured("fraction", "descriptive", "Gradient energy at the masked weights",
        "The same at the trained masked weights, weights of dead channels left out: batch norm multiplies what "
        "reaches them by 1 / sqrt(eps).", FRACTION)
    dead_channels: Number = measured("channels", "descriptive", "Dead channels",
        "Output channels of convolutions and linear layers all of whose weights are used as zero at the end.")


@dataclass(frozen=True, kw_only=True)
class Kernels:
    """How clients' tangent kernels and federated masks differ from centralised ones."""

    ntk_rel_frobenius_error: Number = measured("ratio", "descriptive", "NTK blocks between clients",
        "Frobenius norm of the trace kernel's blocks between clients over the whole kernel's, at the masked "
        f"initial weights, {MIN_PROBES} real examples a client, at most {MOST_CLIENTS} clients. Set by the number "
        "of clients and the probes' geometry.", FRACTION)
    ntk_rel_frobenius_error_iid: Number = measured("ratio", "descriptive", "the same, probes dealt at random",
        "Its mean where the same probes are dealt to the clients at random.", FRACTION)
    ntk_mmd2: Number = measured("ratio", "lower", "NTK feature distance (MMD²)",
        "sum p_i |mu_i - mu|² / mean diagonal of the kernel, mu_i the mean of the prunable weights' Jacobian over "
        "client i's data, unbiased (U-statistics): how far clients' NTK features are from the global ones.",
        (None, None))
    ntk_mmd2_iid: Number = measured("ratio", "descriptive", "the same, probes dealt at random",
        "Its mean where the same probes are dealt to the clients at random.", (None, None))
    ntk_spectrum_error: Number = measured("ratio", "lower", "NTK spectrum error",
        "Mean over clients of sum |difference| of the client's sorted normalised spectrum and the pooled one of as "
        "many probes.", (0.0, 2.0))
    ntk_spectrum_error_iid: Number = measured("ratio", "descriptive", "the same, probes dealt at random",
        "Its mean where the same probes are dealt to the clients at random.", (0.0, 2.0))
    ntk_rel_frobenius_error_gaussian: Number = measured("ratio", "descriptive", "NTK blocks between clients, Gaussian",
        "The same on Gaussian inputs, which every client draws alike.", FRACTION)
    ntk_rel_frobenius_error_gaussian_iid: Number = measured("ratio", "descriptive", "the same, probes dealt at random",
        "Its mean where the same probes are dealt to the clients at random.", FRACTION)
    ntk_mmd2_gaussian: Number = measured("ratio", "descriptive", "NTK feature distance (MMD²), Gaussian",
        "The same on Gaussian inputs.", (None, None))
    ntk_mmd2_gaussian_iid: Number = measured("ratio", "descriptive", "the same, probes dealt at random",
        "Its mean where the same probes are dealt to the clients at random.", (None, None))
    ntk_spectrum_error_gaussian: Number = measured("ratio", "descriptive", "NTK spectrum error, Gaussian",
        "The same on Gaussian inputs.", (0.0, 2.0))
    ntk_spectrum_error_gaussian_iid: Number = measured("ratio", "descriptive", "the same, probes dealt at random",
        "Its mean where the same probes are dealt to the clients at random.", (0.0, 2.0))
    layer_density_l1: Number = measured("ratio", "lower", "Layer-density distance",
        "sum over layers of |difference of kept weights| / kept weights, between the federated mask and the "
        "centralised one of as many draws. Null unless train.compare_masks.", (0.0, 2.0))
    layer_density_l1_null: Number = measured("ratio", "descriptive", "Layer-density distance, null",
        "The same between two independent centralised masks.", (0.0, 2.0))
    moved_weights: Number = measured("fraction", "lower", "Moved weights",
        "Half of the layer-density distance: the share of the kept weights that the federated mask has in another "
        "layer than the centralised one. A moved weight is missing in one layer and too many in another.", FRACTION)
    moved_weights_null: Number = measured("fraction", "descriptive", "Moved weights, null",
        "The same between two independent centralised masks.", FRACTION)
    mask_iou: Number = measured("ratio", "higher", "Mask overlap (IoU)",
        "Weights that the federated and the centralised mask both keep / that either keeps.", FRACTION)
    mask_iou_null: Number = measured("ratio", "descriptive", "Mask overlap, null",
        "The same between two independent centralised masks.", FRACTION)
    mask_iou_shuffled: Number = measured("ratio", "descriptive", "Mask overlap, shuffled",
        "Expected overlap of the two masks where positions are shuffled within every layer.", FRACTION)
    target_layer_density_l1: Number = measured("ratio", "lower", "Layer-density distance to real data",
        "Layer-density distance between the federated mask and the centralised one of real inputs.", (0.0, 2.0))
    target_layer_density_l1_null: Number = measured("ratio", "descriptive", "Layer-density distance to real data, null",
        "The same between two independent centralised masks of real inputs.", (0.0, 2.0))
    target_moved_weights: Number = measured("fraction", "lower", "Moved weights to real data",
        "Half of the layer-density distance to the centralised mask of real inputs.", FRACTION)
    target_moved_weights_null: Number = measured("fraction", "descriptive", "Moved weights to real data, null",
        "The same between two independent centralised masks of real inputs.", FRACTION)
    target_spectrum_error: Number = measured("ratio", "lower", "Spectrum error to real data",
        "sum |difference| of the sorted normalised NTK spectra of the initial weights under the federated mask "
        f"and under the centralised one of real inputs, on {MIN_PROBES} real examples.", (0.0, 2.0))


@dataclass(frozen=True, kw_only=True)
class Times:
    """Where the time went, in seconds of simulation; not of a device."""

    train_seconds: Number = measured("s", "lower", "Training time",
        "Simulation time in training rounds; not a device's time.")
    setup_seconds: Number = measured("s", "lower", "Setup time", "Simulation time in start and setup rounds.")
    evaluate_seconds: Number = measured("s", "lower", "Evaluation time", "Simulation time in evaluations.")
    ntk_seconds: Number = measured("s", "lower", "NTK time", "Time spent on kernels and reference masks.")
    diagnose_seconds: Number = measured("s", "lower", "Diagnostics time", "Time spent on gradient diagnostics.")
    meter_seconds: Number = measured("s", "lower", "Metering time", "Time spent metering device steps.")
    data_seconds: Number = measured("s", "lower", "Data time", "Time spent loading and partitioning the data.")
    wall_seconds: Number = measured("s", "lower", "Wall-clock time", "From the beginning of the attempt to its end.")


@dataclass(frozen=True, kw_only=True)
class Host:
    """What the simulation took of the machine that it ran on; not of a device."""

    attempt_resident_bytes: Number = measured("bytes", "lower", "Memory of the simulation",
        "Largest resident set of a process of the attempt; null where it died.")
    attempt_processes: Number = measured("processes", "descriptive", "Processes of a cell",
        "Among how many processes the attempt shared the clients of a round; null in older records.")
