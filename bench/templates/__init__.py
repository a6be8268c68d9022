"""What `fedfore new` writes: one file a kind, a small method that works, to be changed into another one.

May import `api` and `primitives`.
"""

from pathlib import Path

KINDS = ("method", "bp_free", "pruning", "dynamic")
PLACEHOLDER = "NewMethod"
"""The name of every template's class."""


def source(kind: str, name: str) -> str:
    """Return the text of a file of this kind whose class is called after `name`, as `my_method` is `MyMethod`."""
    words = name.replace("-", "_").split("_")
    called = "".join(word[:1].upper() + word[1:] for word in words)
    text = (Path(__file__).parent / f"{kind}.py").read_text(encoding="utf-8")
    return text.replace(PLACEHOLDER, called if called.isidentifier() else f"Method{called}")
