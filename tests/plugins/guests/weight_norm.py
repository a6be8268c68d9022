"""A metric and a figure of it, kept outside the suite's folders."""

import pandas as pd
from matplotlib.figure import Figure

from fedfore.api import Observer, figure, metric


@metric(unit="weights", direction="descriptive", title="Norm of the weights")
class WeightNorm(Observer):
    """Euclidean norm of the server's weights after the last round."""

    def __init__(self):
        self.norm = None

    def after_round(self, view):
        self.norm = sum(float(p.detach().square().sum()) for p in view.server.model.parameters()) ** 0.5

    def fields(self, view):
        return {"weight_norm": self.norm}

    def state_dict(self):
        return {"norm": self.norm}

    def load_state_dict(self, state):
        self.norm = state["norm"]


@figure(title="Norms of weights")
def norms(table: pd.DataFrame, lines):
    """Norm of the weights of each cell, and its test accuracy in training."""
    drawn = Figure(figsize=(6, 2.5))
    left, right = drawn.subplots(1, 2)
    left.barh(table["cell_id"], table["weight_norm"])
    for cell, own in lines("rounds").groupby("cell_id"):
        right.plot(own["round"], own["test_accuracy"], label=cell)
    return drawn
