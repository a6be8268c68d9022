"""What looks at a model or a device: FLOPs, memory, accuracy, gradient and kernel diagnostics.

Imports tasks, contract, primitives, records and the vocabulary; nothing here knows of rounds.
"""
