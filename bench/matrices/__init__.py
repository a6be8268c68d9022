"""The matrices that ship with the suite: one TOML file each, run by name.

May import nothing: it is data.
"""

from importlib import resources
from pathlib import Path


def named_matrices() -> dict[str, Path]:
    """Return the matrices that ship with the suite, by name."""
    folder = Path(str(resources.files(__name__)))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}
