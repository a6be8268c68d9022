"""The harness of FedFore: one training loop, one set of meters, one contract for every method."""
