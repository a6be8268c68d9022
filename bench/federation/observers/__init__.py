"""What looks at a federation and tells a record's fields: evaluations, diagnoses, costs, kernels, masks, sums.

Each is one `Observer`. A new metric is an observer, in the list of `fedfore.federation.assembly`, and a row in the
table of metrics. Imports what the federation's parts import, and these.
"""
