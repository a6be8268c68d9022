"""From a matrix to records: planning, workers, metering without training, conformance and verification.

May import `federation`, `measure`, `tasks`, `contract`, `judgement`, `records`, `primitives`, `matrices` and the
vocabulary.
"""
