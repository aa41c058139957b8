"""A bag of words: how often each word comes, in whatever order, and logistic regression."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Gt
from scipy import sparse
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from torch import Tensor

from goldfish.tasks.base import PAD, Batch, Task, last_step

FITTED = True  # at once, not step by step
READOUTS = ("last",)  # what a task may ask for
KINDS = ("classification",)
LEAST = 1e-12  # probability of a class that never came


class BagOfWords:
    """Counts of words → scikit-learn's logistic regression. Inputs that are vectors, such as one-hot ones, are summed.

    Args:
        task: one with classes that is read at the last step.
        c: inverse strength of the L2 penalty.
    """

    def __init__(self, task: Task, *, c: Annotated[float, Gt(0)] = 1.0) -> None:
        self.task, self.c = task, c
        self.pipeline = self._pipeline(LogisticRegression(C=c, max_iter=2000))

    def _pipeline(self, regression: LogisticRegression) -> Pipeline:
        return make_pipeline(regression)

    def fit(self, batch: Batch) -> None:
        """Fit to a batch without replica axis."""
        self.pipeline.fit(self.counts(batch), batch.targets.numpy())

    def counts(self, batch: Batch) -> sparse.csr_matrix:
        """How often each word comes, (n, V); PAD is none."""
        if batch.inputs.is_floating_point():
            inside = torch.arange(batch.mask.shape[1]) <= last_step(batch.mask).unsqueeze(1)
            return sparse.csr_matrix((batch.inputs.double() * inside.unsqueeze(-1)).sum(1).numpy())
        rows, steps = (batch.inputs != PAD).nonzero(as_tuple=True)
        words = batch.inputs[rows, steps].numpy()
        shape = (len(batch.inputs), self.task.input_size)
        return sparse.csr_matrix((np.ones(len(words)), (rows.numpy(), words)), shape=shape)

    def log_probabilities(self, batch: Batch) -> Tensor:
        """(n, O), float64."""
        likely = torch.full((len(batch.inputs), self.task.output_size), LEAST, dtype=torch.float64)
        likely[:, self.pipeline.classes_] = torch.from_numpy(self.pipeline.predict_proba(self.counts(batch)))
        return likely.clamp(min=LEAST).log()

    @property
    def regression(self) -> Any:
        """The fitted logistic regression."""
        return self.pipeline[-1]

    @property
    def parameters(self) -> int:
        """How many numbers are fitted."""
        return int(self.regression.coef_.size + self.regression.intercept_.size)

    def state_dict(self) -> dict[str, Tensor]:
        """The fitted numbers by name."""
        fitted = {"coef": self.regression.coef_, "intercept": self.regression.intercept_}
        for step in self.pipeline:
            if isinstance(step, TfidfTransformer):
                fitted["idf"] = step.idf_
        return {name: torch.from_numpy(np.asarray(value)) for name, value in fitted.items()}
