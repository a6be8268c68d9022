"""What a person sees of a run that is planned or goes on, in a terminal or a notebook.

The doors for people and for their own code show the same. May import `execution`, `records`, `cell` and `errors`.
"""
