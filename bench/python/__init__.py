"""The door for Python and notebooks: what `import fedfore` offers, a module a thing that can be asked for.

Each does what a verb of the command does, through the same functions, and prints nothing but how far a run is. May
import `display`, `execution`, `contract`, `plots`, `records` and `errors`. Nobody imports it but the package itself,
when one of its names is asked for.
"""
