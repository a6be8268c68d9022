"""What looks at a model or a device: FLOPs, memory, accuracy, diagnostics of gradients and kernels.

May import `tasks`, `contract`, `records`, `primitives` and the vocabulary. Nothing here knows of rounds.
"""
