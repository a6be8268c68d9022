"""The reference pages, and what makes their tables from the code: `python -m fedfore.docs` writes them again.

May import everything. Nobody imports it.
"""
