"""What `fedfore new` writes: one file a kind, a small plug-in that works, to be changed into another one.

May import `api` and `primitives`.
"""

from pathlib import Path

METHODS = ("method", "bp_free", "pruning", "dynamic")
FUNCTIONS = ("dataset", "model")
KINDS = (*METHODS, *FUNCTIONS)
CLASS, FUNCTION = "NewMethod", "new_plugin"
"""The name of the class of each template of a method, and that of the function of each other one."""


def source(kind: str, name: str) -> str:
    """Return the text of a file of this kind: of a class called after `name`, as `MyMethod`, or of a function."""
    words = name.replace("-", "_").split("_")
    called = "".join(word[:1].upper() + word[1:] for word in words)
    text = (Path(__file__).parent / f"{kind}.py").read_text(encoding="utf-8")
    return text.replace(CLASS, called if called.isidentifier() else f"Method{called}").replace(FUNCTION, name)
