"""torchvision, also where its compiled operators do not load (a CUDA build beside a CPU torch, pytorch/vision #9085).

There `import torchvision` ends with "operator torchvision::nms does not exist", although data sets, transforms and
models need no compiled operator. Declaring the schemas of the two operators that the import names is enough; calling
one of them still fails, as it should. Where the import works this module changes nothing.
"""

from __future__ import annotations

import sys

import torch

try:
    import torchvision
except RuntimeError as error:
    if "torchvision::" not in str(error):
        raise
    _schemas = torch.library.Library("torchvision", "FRAGMENT")  # the declarations live as long as this object
    for _operator in ("nms", "qnms"):
        _schemas.define(f"{_operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    for _module in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[_module]
    import torchvision

datasets = torchvision.datasets
models = torchvision.models
transforms = torchvision.transforms

__all__ = ["datasets", "models", "torchvision", "transforms"]
