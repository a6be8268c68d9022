"""The training loop in parts, with the wire between server and devices and the rules that methods keep.

Imports measure, tasks, contract and what stands below them.
"""
