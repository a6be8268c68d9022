"""The state of a cell between two rounds, in one file: safetensors, with all that is no tensor as JSON inside."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from fedfore.errors import StoreError
from fedfore.federation.states import mask_state
from fedfore.masks import Mask
from fedfore.records.files import write_atomically, writing

TENSOR, ON_DEVICE = "__tensor__", "on_device"


@dataclass(frozen=True)
class Stamp:
    """Whose state a checkpoint holds: the cell, and the code that it was computed with."""

    cell_id: str
    code_sha256: str | None
    hash_scheme: int


def write_checkpoint(path: Path, state: Mapping[str, Any], stamp: Stamp) -> None:
    """Write a state (see `Federation.state_dict`), in the place of an older one as a whole.

    Raises StoreError where it cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    plain = json.dumps(_without_tensors(state, tensors))
    header = {"state": plain, "stamp": json.dumps(asdict(stamp)), "sha256": _sha256(plain, tensors)}
    write_atomically(path, save(tensors, header))


def read_checkpoint(path: Path, torch_device: torch.device) -> dict[str, Any]:
    """Return the state in a checkpoint. Raises StoreError where there is none, or a damaged one."""
    header, tensors = _content(path)
    state: dict[str, Any] = _with_tensors(json.loads(header["state"]), tensors, torch_device)
    return state


def unusable(path: Path, stamp: Stamp) -> str | None:
    """Return in a sentence why a cell of this stamp cannot go on from a checkpoint, or None where it can."""
    try:
        header, _ = _content(path)
        found = Stamp(**json.loads(header["stamp"]))
    except (StoreError, ValueError, TypeError, KeyError):
        return f"The checkpoint of {stamp.cell_id} is damaged; the cell starts anew."
    if found != stamp:
        return f"The checkpoint of {stamp.cell_id} was made with other code than is here; the cell starts anew."
    return None


def write_model(path: Path, model: nn.Module, mask: Mask | None) -> None:
    """Write a model's parameters and buffers by name, and a mask's layers as `mask.<name>` (bool).

    Raises StoreError where they cannot be written.
    """
    tensors = dict(model.state_dict()) | {f"mask.{name}": layer for name, layer in mask_state(mask).items()}
    write_atomically(path, save({name: _copy(tensor) for name, tensor in tensors.items()}))


def _content(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Return the header and the tensors of a checkpoint that is whole. Raises StoreError for any other file."""
    if path.exists() and not path.is_file():  # what is no file may never be read to its end
        raise StoreError(f"{path} is damaged: it is no file.")
    try:
        with writing(path), safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise StoreError(f"{path} is damaged: {error}.") from None
    if header.get("sha256") != _sha256(header.get("state", ""), tensors):
        raise StoreError(f"{path} is damaged: it does not hold what was written.")
    return header, tensors


def _without_tensors(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Return a state with each tensor replaced by its name in `tensors`, where copies of them are put."""
    if isinstance(value, Tensor):
        name = str(len(tensors))
        tensors[name] = _copy(value)
        return {TENSOR: name, ON_DEVICE: value.device.type != "cpu"}
    if isinstance(value, Mapping):
        return {key: _without_tensors(inner, tensors) for key, inner in value.items()}
    return [_without_tensors(inner, tensors) for inner in value] if isinstance(value, list) else value


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)


def _with_tensors(value: Any, tensors: Mapping[str, Tensor], torch_device: torch.device) -> Any:
    if isinstance(value, dict):
        if TENSOR in value:
            tensor = tensors[value[TENSOR]]
            return tensor.to(torch_device) if value[ON_DEVICE] else tensor
        return {key: _with_tensors(inner, tensors, torch_device) for key, inner in value.items()}
    return [_with_tensors(inner, tensors, torch_device) for inner in value] if isinstance(value, list) else value


def _sha256(plain: str, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(plain.encode())
    for part in _bytes(tensors):
        digest.update(part)
    return digest.hexdigest()


def _bytes(tensors: Mapping[str, Tensor]) -> Iterator[bytes]:
    for name, tensor in sorted(tensors.items()):
        yield f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode()
        if tensor.numel():
            yield tensor.reshape(-1).view(torch.uint8).numpy().tobytes()
