"""Figures, tables, the HTML report and study cards, from stored records alone.

May import `judgement`, `records`, `errors` and `cell`. No torch.
"""

if __name__ != "fedfore.plots":
    raise ImportError(f"This folder is imported as fedfore.plots, not as {__name__}.")
