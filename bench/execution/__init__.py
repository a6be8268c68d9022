"""From a matrix to records: planning, workers, metering without training, and the conformance suite.

Imports federation and what stands below it.
"""
