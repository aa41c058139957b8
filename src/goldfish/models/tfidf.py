"""TF-IDF: a bag of words in which rare words weigh more, and logistic regression."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Gt
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline

from goldfish.models.bag_of_words import BagOfWords
from goldfish.tasks.base import Task

FITTED = True  # at once, not step by step
READOUTS = ("last",)  # what a task may ask for
KINDS = ("classification",)


class Tfidf(BagOfWords):
    """Counts · ln((1 + n) / (1 + documents with the word)) + counts, rows of norm 1 → logistic regression.

    Args:
        task: one with classes that is read at the last step.
        c: inverse strength of the L2 penalty.
    """

    def __init__(self, task: Task, *, c: Annotated[float, Gt(0)] = 1.0) -> None:
        super().__init__(task, c=c)

    def _pipeline(self, regression: LogisticRegression) -> Pipeline:
        return make_pipeline(TfidfTransformer(), regression)
