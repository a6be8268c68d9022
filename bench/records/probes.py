"""How much the harness looks at, and when: sizes of probes and milestones of the budget. Pure data, no torch.

Numbers of records depend on these, and sentences name them: a module of their own keeps both from saying another thing.
"""

MILESTONES = (0.0, 0.01, 0.1, 0.5, 1.0)
"""Fractions of the budget at which a cell is diagnosed."""
MILESTONES_TEXT = ", ".join(f"{milestone:.0%}" for milestone in MILESTONES)

PROBE_EXAMPLES = 256
"""Training examples on which the gradient's energy is measured."""
SCALAR_DIRECTIONS = 40
"""Directions along which finite differences are compared with their limit."""

HEADLINE_SHARE = 0.1
"""The share of the budget, its end, in which evaluations make the headline."""
HEADLINE_EVALUATIONS = 5
"""Evaluations of which the headline is a mean at least, where there were as many."""

MIN_PROBES = 20
"""Probes that a client needs for its tangent kernel, and gives: below, the U-statistics say little."""
MOST_CLIENTS = 10
"""Clients whose kernels are compared, the first of a random order; more would cost more than training."""
