"""What is known of a data set before any file is read, and the decorator that declares one. No torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypedDict, TypeVar, Unpack

from fedfore.errors import PluginError, suggestion
from fedfore.records.declared import marked
from fedfore.tasks.readers import Reader

Read = TypeVar("Read", bound=Reader)


@dataclass(frozen=True)
class DatasetSpec:
    """What is known of a data set before any file is read.

    `mean` and `std` are per-channel constants of the training images, in units of a byte's full range (0 to 1) or of
    the floats; without them they are computed of the images that are read. `files` maps paths below the data folder to
    MD5 sums; it is empty where the data need none there. `read` reads the data. `class_counts`, the training examples
    of each class, let a plan refuse partitions that cannot be drawn; they may be left out. `num_owners` is the number
    of owners of the training examples (`alpha = "natural"`), 0 where the reader does not say whose they are.
    """

    name: str
    description: str
    input_shape: tuple[int, int, int]
    num_classes: int
    num_train: int
    num_test: int
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    augmentable: bool = False
    read: Reader | None = field(default=None, repr=False)
    torchvision_class: str | None = None
    class_counts: tuple[int, ...] | None = field(default=None, repr=False)
    num_owners: int = 0
    files: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False)

    @property
    def downloadable(self) -> bool:
        """Whether the data are files that `download` can fetch."""
        return self.torchvision_class is not None


class Required(TypedDict):
    """What `dataset` must be told: fields of `DatasetSpec`."""

    input_shape: tuple[int, int, int]
    num_classes: int
    num_train: int
    num_test: int


class Facts(Required, total=False):
    """What it may be told beside."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    augmentable: bool
    class_counts: tuple[int, ...]
    num_owners: int
    files: Mapping[str, str]
    torchvision_class: str


FACTS = Facts.__required_keys__ | Facts.__optional_keys__


def dataset(**facts: Unpack[Facts]) -> Callable[[Read], Read]:
    """Declare a function as the reader of a data set, whose name is the function's; see `DatasetSpec`.

    `input_shape`: channels, height and width. The function is called with the data folder, a Path, and returns two
    parts, `(train, test)`: each `(x, y)` or `(x, y, client)`, numpy arrays or tensors, `x: uint8 or float32
    [N, C, H, W]`, `y: int64 [N]` from 0 to num_classes - 1, `client: int64 [N]`, the natural owner of each example. The
    first line of its docstring is what `fedfore ls datasets` shows.
    """

    def describe(name: str, read: Reader) -> DatasetSpec:
        for fact in sorted(Facts.__required_keys__ - facts.keys()):
            raise PluginError(f"its decorator lacks {fact}")
        for fact in sorted(facts.keys() - FACTS):
            raise PluginError(f"its decorator has no argument {fact}.{suggestion(fact, FACTS)}")
        described = DatasetSpec(name, (read.__doc__ or "").strip().partition("\n")[0], read=read, **facts)
        _check(described)
        return described

    return lambda read: marked("dataset", read, describe)


def _check(spec: DatasetSpec) -> None:
    """Raise PluginError where what is declared cannot be of a data set."""
    counts = {"input_shape": (*spec.input_shape, 1), "num_classes": (spec.num_classes - 1,)}
    counts |= {"num_train": (spec.num_train,), "num_test": (spec.num_test,)}
    for name, values in counts.items():
        if len(values) != (4 if name == "input_shape" else 1) or not all(_is_count(value) for value in values):
            raise PluginError(
                f"its {name} is {getattr(spec, name)!r}; give channels, height and width as input_shape, two classes "
                "or more as num_classes, and the numbers of examples as num_train and num_test"
            )
    for name in ("mean", "std"):
        values = getattr(spec, name)
        if values is not None and len(values) != spec.input_shape[0]:
            raise PluginError(f"its {name} has {len(values)} values for {spec.input_shape[0]} channels; give one each")
    if spec.class_counts is not None and (len(spec.class_counts), sum(spec.class_counts)) != (
        spec.num_classes,
        spec.num_train,
    ):
        raise PluginError(
            f"its class_counts are {len(spec.class_counts)} numbers with the sum {sum(spec.class_counts)}; give one a "
            f"class, {spec.num_classes}, with the sum num_train = {spec.num_train}, or leave them out"
        )


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
