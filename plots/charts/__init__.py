"""Figures that answer a study's questions, a module a figure: what is compared, at what cost, how it was tuned."""
