"""Architectures, a family a file; `fedfore.tasks.model_registry` finds them by their place.

To add a model, write one function under `@model` here, in the file of its family or in one of its own:

* its name is the model's name, the first line of its docstring what `fedfore ls models` shows; `smallest` is the least
  height and width of its images, from which on all sizes and any number of channels have to fit: that at which a batch
  norm sees more than one pixel of a single image;
* its arguments are `(input_shape, num_classes, *, option=default, ...)`. A float as default makes the option a positive
  number (`width`), a Literal as type makes it one of these texts (`layers.Norm`);
* it returns an `nn.Sequential` that maps [B, C, H, W] to logits [B, num_classes]. Every place gets a `norm_layer(...)`
  and an `ACTIVATIONS[...]()` of its own, since meters hook modules. No dropout: it would draw from the global
  generator.

No option is required. The tests try every value of `norm` and `activation` that a model has, and `width` at a half.
`norm=standardised` is `none` with standardised convolutions and scaled residual
branches (`fedfore.primitives.sparse_normalisation`), which `fedfore.tasks.models.build` sees to; the parameters are
those of `none`.

Weights are no concern of that function: `build` gives every model the weights of seed 0, and `initialise` draws others;
but parameters that it freezes (requires_grad = False) keep their values, travel, and are neither trained nor pruned. No
two layers share a parameter. A layer that the forward pass does not use gets no gradient.
The published parameter count of a new model on 3x32x32 images and 10 classes belongs into `PUBLISHED` in
tests/test_models.py.
"""
