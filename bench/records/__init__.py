"""What is stored of a run, and how it is read: schema, metrics, files, provenance. No torch.

All that `fedfore.plots` reads. Imports nothing of the suite but `fedfore.errors` and `fedfore.cell`.
"""
