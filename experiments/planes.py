"""Project vectors to a plane, and test whether a linear classifier separates two roles."""

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.manifold import TSNE
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from experiments.members import Rows


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
    """1 for each row that a linear classifier trained on earlier texts gets right, else 0.

    NaN in the first text. Rows come text by text; each text has rows of both roles. Training on
    all other texts would let texts succeed together (`statistics.choice`).
    """
    right, before = np.full(len(rows), np.nan), np.zeros(len(rows), dtype=bool)
    for text in dict.fromkeys(texts):
        train, test, before = before, texts == text, before | (texts == text)
        if not train.any():
            continue
        classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
        classifier.fit(rows[train], truth[train])
        right[test] = classifier.predict(rows[test]) == truth[test]
    return right
