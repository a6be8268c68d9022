"""Figures, tables and the HTML report of a run, from stored records only: nothing here imports torch."""

if __name__ != "fedfore.plots":
    raise ImportError(f"This folder is imported as fedfore.plots, not as {__name__}.")
