"""Project vectors to a plane, and test whether a linear classifier separates two roles."""

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.manifold import TSNE
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from experiments.members import Rows

FOLDS = 10


def principal_plane(rows: Rows) -> Rows:
    """Coordinates of each row on its first two principal components, centred. Equal rows give 0."""
    if not np.ptp(rows, axis=0).any():
        return np.zeros((len(rows), 2))
    return np.asarray(PCA(2, svd_solver="full").fit_transform(rows))


def tsne_plane(rows: Rows, seed: int) -> Rows:
    """Coordinates of each row by t-SNE. Equal rows give 0."""
    if not np.ptp(rows, axis=0).any():
        return np.zeros((len(rows), 2))
    perplexity = min(30.0, (len(rows) - 1) / 3)
    embed = TSNE(perplexity=perplexity, init="pca", random_state=seed)
    return np.asarray(embed.fit_transform(rows))


def separation(rows: Rows, truth: NDArray[np.object_], texts: NDArray[np.object_]) -> Rows:
    """1 for each row that a linear classifier trained on other texts gets right, else 0.

    NaN if there is only one text.
    """
    right, n_texts = np.full(len(rows), np.nan), len(set(texts))
    if n_texts < 2:
        return right
    for train, test in GroupKFold(min(n_texts, FOLDS)).split(rows, truth, texts):
        classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
        classifier.fit(rows[train], truth[train])
        right[test] = classifier.predict(rows[test]) == truth[test]
    return right
