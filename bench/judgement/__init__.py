"""What records say against one another: estimates, contrasts, verdicts, ranks. No torch.

Every interval, verdict and rank that a report, a table, a figure or README shows is computed here, from records, by
rules that are fixed beforehand. May import `records`, `errors` and `cell`.
"""
