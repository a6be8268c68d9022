"""The `fedfore` command: its arguments, its verbs and what they print.

May import everything. Only the reference pages, which describe it, import it.
"""
