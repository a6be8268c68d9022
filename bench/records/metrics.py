"""The metric table: every number of a record has one row here, and every label, unit and direction comes from here.

Pure data: no torch, no computation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from fedfore.records.probes import MILESTONES_TEXT, MIN_PROBES, MOST_CLIENTS, SCALAR_DIRECTIONS

Direction = Literal["higher", "lower", "descriptive"]


@dataclass(frozen=True)
class Metric:
    """One measured quantity. `limits` are the values it can take at all; None leaves an end open."""

    name: str
    unit: str
    direction: Direction
    label: str
    description: str
    limits: tuple[float | None, float | None] = (0.0, None)


FRACTION = (0.0, 1.0)

_ROWS = (
    Metric("test_accuracy", "fraction", "higher", "Test accuracy",
           "Headline: mean test accuracy of the global model over the last 5 evaluations, or over all where there are "
           "fewer; fixed before running.", FRACTION),
    Metric("test_accuracy_span", "fraction", "descriptive", "Span of the headline",
           "Share of the budget from the first to the last of the evaluations of which test_accuracy is the mean."),
    Metric("final_test_accuracy", "fraction", "higher", "Final test accuracy",
           "Test accuracy of the global model at the last evaluation.", FRACTION),
    Metric("best_test_accuracy", "fraction", "higher", "Best test accuracy",
           "Highest test accuracy over all evaluations; chosen on test data, so never used in a verdict.", FRACTION),
    Metric("test_accuracy_recalibrated", "fraction", "higher", "Test accuracy, batch norm recalibrated",
           "test_accuracy with batch-norm statistics computed anew at each evaluation from 1,000 training examples. "
           "Null unless train.recalibrate, and without batch norm.", FRACTION),
    Metric("test_loss", "nats", "lower", "Test loss", "Mean cross-entropy on the test set at the last evaluation."),
    Metric("validation_accuracy", "fraction", "higher", "Validation accuracy",
           "Mean validation accuracy over the last 5 evaluations; null without a validation set.", FRACTION),
    Metric("client_accuracy_mean", "fraction", "higher", "Mean accuracy over clients",
           "Mean over clients of the global model's last test accuracy, classes reweighted to the client's own label "
           "distribution.", FRACTION),
    Metric("client_accuracy_min", "fraction", "higher", "Worst client's accuracy",
           "Smallest of the clients' reweighted test accuracies at the last evaluation.", FRACTION),
    Metric("client_accuracy_p10", "fraction", "higher", "Accuracy at the clients' 10% quantile",
           "10% quantile, linear between clients, of the clients' reweighted test accuracies at the last evaluation.",
           FRACTION),
    Metric("data_passes", "passes", "lower", "Data passes",
           "Examples drawn by clients in training / examples of all clients."),
    Metric("budget_used", "fraction", "descriptive", "Share of the budget used",
           "What training spent / the budget of data passes or rounds that the protocol sets: above 1 where the last "
           "round went past it. Null without a budget."),
    Metric("server_updates", "updates", "lower", "Server updates", "Training rounds, each ending in one aggregation."),
    Metric("setup_rounds", "rounds", "lower", "Setup rounds", "Federated rounds before training."),
    Metric("forward_macs_dense", "MACs", "lower", "Forward MACs, dense",
           "Multiply-accumulates of convolutions and matrix products in one forward pass of one example."),
    Metric("forward_macs_masked", "MACs", "lower", "Forward MACs, masked",
           "The same, each layer scaled by its measured mask density at the end of training."),
    Metric("device_step_flops", "FLOPs", "lower", "Device-step FLOPs",
           "FLOPs (2 x MACs) that one batch of a device's real update takes, by the on-device algorithm, masked "
           "weights not counted. What a round adds, such as an adjustment's dense gradients, is in the totals only."),
    Metric("device_setup_flops", "FLOPs", "lower", "Setup-round FLOPs of a device",
           "The same of the setup round with the highest peak, on one batch where it draws any; for foresight pruning "
           "the first round, in which nothing is pruned yet."),
    Metric("metered_batch", "examples", "descriptive", "Metered batch",
           "Examples of the batch on which a device was metered, the largest that any client can draw: the protocol's "
           "batch size, or all examples of the largest client where that holds fewer. FLOPs of a step and peaks are of "
           "it."),
    Metric("train_flops_total", "FLOPs", "lower", "Training FLOPs",
           "Device FLOPs summed over clients and training rounds: metered cost of the round's kind x batches drawn."),
    Metric("setup_flops_total", "FLOPs", "lower", "Setup FLOPs", "The same over the setup rounds."),
    Metric("perturbation_ops", "operations", "lower", "Perturbation operations",
           "Floating-point numbers written while a device draws, scales, adds and removes perturbations in one update "
           "on one batch; the generator's integers and the FLOPs are apart."),
    Metric("peak_device_bytes", "bytes", "lower", "Peak device bytes",
           "Peak of live tensor bytes of a device, maximum over setup and training."),
    Metric("peak_device_bytes_setup", "bytes", "lower", "Peak device bytes, setup", "The peak of the setup rounds."),
    Metric("peak_device_bytes_train", "bytes", "lower", "Peak device bytes, training",
           "The peak of the training rounds."),
    Metric("peak_device_bytes_parameters", "bytes", "lower", "parameters and buffers",
           "Share of the peak: the model's parameters and buffers."),
    Metric("peak_device_bytes_gradients", "bytes", "lower", "gradients", "Share of the peak: parameters' gradients."),
    Metric("peak_device_bytes_activations", "bytes", "lower", "activations",
           "Share of the peak: inputs, activations and temporary tensors."),
    Metric("peak_device_bytes_perturbation", "bytes", "lower", "perturbation", "Share of the peak: perturbations."),
    Metric("peak_device_bytes_optimizer", "bytes", "lower", "optimizer and client state",
           "Share of the peak: local optimizer state and the client's kept state."),
    Metric("peak_device_bytes_messages", "bytes", "lower", "messages",
           "Share of the peak: received tensors and the mask."),
    Metric("peak_device_bytes_sparse", "bytes", "lower", "Peak device bytes, sparse storage",
           "The peak with each masked parameter in its cheapest storage (dense, bitmap + values, COO, CSR)."),
    Metric("uplink_bytes", "bytes", "lower", "Uplink bytes",
           "Encoded bytes from clients to server, all rounds; floats travel in train.wire_precision."),
    Metric("downlink_bytes", "bytes", "lower", "Downlink bytes",
           "Encoded bytes from server to clients, all rounds, counted once per receiver; floats likewise."),
    Metric("uplink_bytes_setup", "bytes", "lower", "Uplink bytes, setup", "The setup rounds' share."),
    Metric("downlink_bytes_setup", "bytes", "lower", "Downlink bytes, setup", "The setup rounds' share."),
    Metric("uplink_bytes_train", "bytes", "lower", "Uplink bytes, training", "The training rounds' share."),
    Metric("downlink_bytes_train", "bytes", "lower", "Downlink bytes, training", "The training rounds' share."),
    Metric("uplink_bytes_per_client_round", "bytes", "lower", "Uplink bytes per client and round",
           "uplink_bytes_train / (clients x training rounds that took part)."),
    Metric("downlink_bytes_per_client_round", "bytes", "lower", "Downlink bytes per client and round",
           "downlink_bytes_train / (clients x training rounds that took part)."),
    Metric("num_parameters", "parameters", "descriptive", "Parameters", "Trainable parameters of the model."),
    Metric("num_prunable", "parameters", "descriptive", "Prunable weights",
           "Weights of convolutions and linear layers."),
    Metric("sparsity_measured", "fraction", "descriptive", "Sparsity",
           "Zeros / prunable weights at the end: of the mask, or of the weights where there is no mask.", FRACTION),
    Metric("sparsity_all_parameters", "fraction", "descriptive", "Sparsity over all parameters",
           "Pruned weights / all trainable parameters.", FRACTION),
    Metric("layer_density_min", "fraction", "descriptive", "Lowest layer density",
           "Density of the sparsest prunable layer.", FRACTION),
    Metric("churn", "fraction", "lower", "Churn",
           "Weights pruned by an adjustment that were grown when their layer last grew any / weights pruned in layers "
           "that had grown any; mean over adjustments. Null for a mask that does not move. Above one half, adjustments "
           "undo each other and say nothing about moving a mask.", FRACTION),
    Metric("mask_moved", "fraction", "descriptive", "Moved weights",
           "Kept weights at the end that the first mask of training pruned / kept weights; null without a mask.",
           FRACTION),
    Metric("label_skew_tv", "fraction", "descriptive", "Label skew (total variation)",
           "Size-weighted mean over clients of the total-variation distance between the client's label distribution "
           "and the pooled one.", FRACTION),
    Metric("min_client_examples", "examples", "descriptive", "Smallest client", "Training examples of the smallest "
           "client."),
    Metric("grad_rel_error", "ratio", "lower", "Relative gradient error",
           "|g_hat - g| / |g| of one client's estimate on a fixed probe batch, over active coordinates; mean over "
           f"{MILESTONES_TEXT} of the budget, where it is defined and finite. Null for methods that send no estimate."),
    Metric("grad_cosine", "cosine", "higher", "Gradient cosine", "Cosine of g_hat and g, likewise.", (-1.0, 1.0)),
    Metric("fd_scalar_error", "ratio", "lower", "Finite-difference scalar error",
           "Relative difference between finite-difference scalars and their limit sigma -> 0 over "
           f"{SCALAR_DIRECTIONS} directions, the largest at {MILESTONES_TEXT} of the budget. Null where it was not "
           "measured or not finite at one of them. Whether a simulated estimator is certified is a matter of all seeds "
           "together."),
    Metric("variance_ratio_start", "ratio", "descriptive", "Variance, shared / independent, at the start",
           "|sum p_i g_i|^2 / sum p_i^2 |g_i|^2 over clients: what shared perturbations cost in variance against "
           "independent ones, before training. Null where no client has a gradient, or none that is finite."),
    Metric("variance_ratio_end", "ratio", "descriptive", "Variance, shared / independent, at the end",
           "The same after training; below 1 where clients disagree."),
    Metric("grad_energy_kept", "fraction", "higher", "Gradient energy kept",
           "|m.g|^2 / |g|^2 over prunable weights at the dense weights that the method starts from, on probe data. "
           "Null where there is no gradient, or none that is finite.", FRACTION),
    Metric("grad_energy_masked_point", "fraction", "descriptive", "Gradient energy at the masked weights",
           "The same at the trained masked weights, weights of dead channels left out: batch norm multiplies what "
           "reaches them by 1 / sqrt(eps).", FRACTION),
    Metric("dead_channels", "channels", "descriptive", "Dead channels",
           "Output channels of convolutions and linear layers all of whose weights are used as zero at the end."),
    Metric("ntk_rel_frobenius_error", "ratio", "descriptive", "NTK blocks between clients",
           "Frobenius norm of the trace kernel's blocks between clients over the whole kernel's, at the masked initial "
           f"weights, {MIN_PROBES} real examples a client, at most {MOST_CLIENTS} clients. Set by the number of "
           "clients and the probes' geometry.", FRACTION),
    Metric("ntk_rel_frobenius_error_iid", "ratio", "descriptive", "the same, probes dealt at random",
           "Its mean where the same probes are dealt to the clients at random.", FRACTION),
    Metric("ntk_mmd2", "ratio", "lower", "NTK feature distance (MMD²)",
           "sum p_i |mu_i - mu|² / mean diagonal of the kernel, mu_i the mean of the prunable weights' Jacobian over "
           "client i's data, unbiased (U-statistics): how far clients' NTK features are from the global ones.",
           (None, None)),
    Metric("ntk_mmd2_iid", "ratio", "descriptive", "the same, probes dealt at random",
           "Its mean where the same probes are dealt to the clients at random.", (None, None)),
    Metric("ntk_spectrum_error", "ratio", "lower", "NTK spectrum error",
           "Mean over clients of sum |difference| of the client's sorted normalised spectrum and the pooled one of as "
           "many probes.", (0.0, 2.0)),
    Metric("ntk_spectrum_error_iid", "ratio", "descriptive", "the same, probes dealt at random",
           "Its mean where the same probes are dealt to the clients at random.", (0.0, 2.0)),
    Metric("ntk_rel_frobenius_error_gaussian", "ratio", "descriptive", "NTK blocks between clients, Gaussian",
           "The same on Gaussian inputs, which every client draws alike.", FRACTION),
    Metric("ntk_rel_frobenius_error_gaussian_iid", "ratio", "descriptive", "the same, probes dealt at random",
           "Its mean where the same probes are dealt to the clients at random.", FRACTION),
    Metric("ntk_mmd2_gaussian", "ratio", "descriptive", "NTK feature distance (MMD²), Gaussian",
           "The same on Gaussian inputs.", (None, None)),
    Metric("ntk_mmd2_gaussian_iid", "ratio", "descriptive", "the same, probes dealt at random",
           "Its mean where the same probes are dealt to the clients at random.", (None, None)),
    Metric("ntk_spectrum_error_gaussian", "ratio", "descriptive", "NTK spectrum error, Gaussian",
           "The same on Gaussian inputs.", (0.0, 2.0)),
    Metric("ntk_spectrum_error_gaussian_iid", "ratio", "descriptive", "the same, probes dealt at random",
           "Its mean where the same probes are dealt to the clients at random.", (0.0, 2.0)),
    Metric("layer_density_l1", "ratio", "lower", "Layer-density distance",
           "sum over layers of |difference of kept weights| / kept weights, between the federated mask and the "
           "centralised one of as many draws. Null unless train.compare_masks.", (0.0, 2.0)),
    Metric("layer_density_l1_null", "ratio", "descriptive", "Layer-density distance, null",
           "The same between two independent centralised masks.", (0.0, 2.0)),
    Metric("moved_weights", "fraction", "lower", "Moved weights",
           "Half of the layer-density distance: the share of the kept weights that the federated mask has in another "
           "layer than the centralised one. A moved weight is missing in one layer and too many in another.", FRACTION),
    Metric("moved_weights_null", "fraction", "descriptive", "Moved weights, null",
           "The same between two independent centralised masks.", FRACTION),
    Metric("mask_iou", "ratio", "higher", "Mask overlap (IoU)",
           "Weights that the federated and the centralised mask both keep / that either keeps.", FRACTION),
    Metric("mask_iou_null", "ratio", "descriptive", "Mask overlap, null",
           "The same between two independent centralised masks.", FRACTION),
    Metric("mask_iou_shuffled", "ratio", "descriptive", "Mask overlap, shuffled",
           "Expected overlap of the two masks where positions are shuffled within every layer.", FRACTION),
    Metric("target_layer_density_l1", "ratio", "lower", "Layer-density distance to real data",
           "Layer-density distance between the federated mask and the centralised one of real inputs.", (0.0, 2.0)),
    Metric("target_layer_density_l1_null", "ratio", "descriptive", "Layer-density distance to real data, null",
           "The same between two independent centralised masks of real inputs.", (0.0, 2.0)),
    Metric("target_moved_weights", "fraction", "lower", "Moved weights to real data",
           "Half of the layer-density distance to the centralised mask of real inputs.", FRACTION),
    Metric("target_moved_weights_null", "fraction", "descriptive", "Moved weights to real data, null",
           "The same between two independent centralised masks of real inputs.", FRACTION),
    Metric("target_spectrum_error", "ratio", "lower", "Spectrum error to real data",
           "sum |difference| of the sorted normalised NTK spectra of the initial weights under the federated mask and "
           f"under the centralised one of real inputs, on {MIN_PROBES} real examples.", (0.0, 2.0)),
    Metric("train_seconds", "s", "lower", "Training time", "Simulation time in training rounds; not a device's time."),
    Metric("setup_seconds", "s", "lower", "Setup time", "Simulation time in start and setup rounds."),
    Metric("evaluate_seconds", "s", "lower", "Evaluation time", "Simulation time in evaluations."),
    Metric("ntk_seconds", "s", "lower", "NTK time", "Time spent on kernels and reference masks."),
    Metric("diagnose_seconds", "s", "lower", "Diagnostics time", "Time spent on gradient diagnostics."),
    Metric("meter_seconds", "s", "lower", "Metering time", "Time spent metering device steps."),
    Metric("data_seconds", "s", "lower", "Data time", "Time spent loading and partitioning the data."),
)  # fmt: skip

METRICS: Mapping[str, Metric] = {row.name: row for row in _ROWS}

PEAK_PARTS = tuple(
    f"peak_device_bytes_{part}"
    for part in ("parameters", "gradients", "activations", "perturbation", "optimizer", "messages")
)

FIELDS: Mapping[str, str] = {
    "schema_version": "Version of the record's shape.",
    "cell_id": "The cell: its method, and a hash of the settings that differ from their defaults.",
    "method": "Name of the method.",
    "dataset": "Name of the data set.",
    "model": "Name of the model with its options.",
    "sparsity_asked": "Sparsity that the plan asks for; `sparsity_measured` is what came out.",
    "alpha": "Heterogeneity of the clients' labels: iid, Dirichlet's alpha, or shards.",
    "seed": "Seed of everything random in the cell.",
    "estimator": "How updates are estimated; null for a method that has no choice.",
    "simulated": "Whether the estimator uses something that no device could send.",
    "train": "The protocol, with its defaults filled in.",
    "params": "The method's parameters, with their defaults filled in.",
    "role": "Where the method's file stands: method, baseline or plugin.",
    "uses": "The axes of the matrix that mean something to the method.",
    "status": "ok, skipped, failed, diverged, timeout or out_of_memory.",
    "reason": "Why the cell did not end as planned, or what is to be said of its numbers; else null.",
    "method_variant": "What the method calls the form in which it ran; null where there is one form.",
    "ntk_reason": "Why kernels were not compared; absent where they were.",
    "partition_sha256": "Hash of the clients' training examples: cells in which it is equal dealt the same examples to "
    "the same clients.",
    "uncounted_ops": "Operators that no FLOP counter knew.",
    "evaluates_other_weights": "Whether the evaluated weights are not those that are sent.",
    "estimator_uncertified": "Of older records: whether a simulated estimator was too far from the real one in this "
    "cell alone. Tables and figures judge all seeds of a point together.",
    "files": "The files beside the record when it was written.",
    "code_sha256": "Hash of the code that the cell ran, as it was when the run began.",
    "hash_scheme": "How the code was hashed: 1 its bytes (also where the field is absent), 2 its syntax trees.",
    "environment": "Hash of versions and processor; they lie in environments/.",
    "git_commit": "Commit of the suite when the run began; null where it is installed.",
    "attempt": "How often the cell has been tried, this time included.",
    "started_utc": "When the attempt began.",
    "finished_utc": "When it ended.",
    "wall_seconds": "Wall-clock time between the two.",
}
"""The fields of a record that are no metrics."""
