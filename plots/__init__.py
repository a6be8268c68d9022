"""Figures, tables and the HTML report of a run, from stored records only: nothing here imports torch."""
