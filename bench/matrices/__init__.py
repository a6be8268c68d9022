"""The matrices that ship with the suite, one TOML file each, run by name, and choices of tuning that they take.

May import nothing: it is data.
"""

from importlib import resources
from pathlib import Path

CHOICES = ".choices.toml"
"""How the name of a file ends that holds the choices of a study, beside the matrices that take them."""


def named_matrices() -> dict[str, Path]:
    """Return the matrices that ship with the suite, by name."""
    folder = Path(str(resources.files(__name__)))
    return {path.stem: path for path in sorted(folder.glob("*.toml")) if not path.name.endswith(CHOICES)}
