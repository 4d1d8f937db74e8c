"""A linear probe that is solved instead of trained: scikit-learn's logistic regression on averaged features.

An independent linear probe of the plain view: an optimum that is found exactly, and for each label the
regularization that does best in cross-validation on the training photos.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from benchmarks.training_runs import Result
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.preprocessing import StandardScaler

from query2label.config import load_config
from query2label.metrics import mean_average_precision
from query2label.training import prepare
from query2label.training.distributed import Ranks
from query2label.training.features import FeatureCache
from query2label.training.start import build_start

NUM_FOLDS = 3
STRENGTHS = [1e-5, 1e-4, 1e-3, 1e-2, 1e-1]


def solved(data: Path, out: Path, *, recipe: str, overrides: Sequence[str]) -> Result:
    """The probe of the data's training photos on their validation photos, or what an earlier call found."""
    found = out / "result.json"
    if not found.exists():
        device = torch.device("cpu")
        config = load_config(recipe, (f"data.path={data}", *overrides))
        start = build_start(config, ranks=Ranks(device), load_weights=True)
        features = []
        for role, dataset in (("train", start.data.train), ("val", start.data.val)):
            # Called where training calls it, so that splits share a cache (splits.py).
            cache = prepare.build_feature_cache(
                start.model, dataset, start.spec, config, role=role, device=device
            )
            features.append(_averaged(cache))
        began = time.monotonic()
        scaler = StandardScaler().fit(features[0])
        train, val = map(scaler.transform, features)
        targets = start.data.train.targets()
        scores = np.stack(
            [_scores(train, targets[:, label], val) for label in range(targets.shape[1])], axis=1
        )
        precision = mean_average_precision(scores, start.data.val.targets()) or 0.0
        out.mkdir(parents=True, exist_ok=True)
        values = {"best": precision, "last": precision, "seconds": time.monotonic() - began}
        found.write_text(json.dumps(values), encoding="utf-8")
    return Result(**json.loads(found.read_text(encoding="utf-8")))


def _averaged(cache: FeatureCache) -> np.ndarray:
    """The mean of each photo's plain feature map: (n, C)."""
    rows = np.arange(len(cache))[:, None]  # one at a time, for the sake of memory
    return np.concatenate([cache.load(row).mean(dim=(2, 3)).numpy() for row in rows])


def _scores(train: np.ndarray, targets: np.ndarray, val: np.ndarray) -> np.ndarray:
    known = targets >= 0
    photos, shown = train[known], targets[known] == 1
    fewest = min(shown.sum(), (~shown).sum())
    if fewest == 0:
        return np.full(len(val), 0.5)
    if fewest < NUM_FOLDS:
        model = LogisticRegression(C=1e-3, max_iter=1000)
    else:
        model = LogisticRegressionCV(
            Cs=STRENGTHS,
            cv=NUM_FOLDS,
            scoring="average_precision",
            max_iter=1000,
            l1_ratios=(0,),
            use_legacy_attributes=False,
        )
    return np.asarray(model.fit(photos, shown).predict_proba(val)[:, 1])
