"""Figures, a module a kind of them: what is compared, at what cost, how it was tuned, what masks and kernels are."""
