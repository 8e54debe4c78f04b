"""Makes clustering.json: V-measure of random labellings, and a k-means problem with its best known inertia.

    python make_clustering.py clustering.json        (needs scikit-learn)
"""
import json
import sys

import numpy as np
from sklearn.cluster import KMeans
from sklearn.metrics import v_measure_score

rng = np.random.default_rng(11)
cases = []
for n, classes, clusters in ((2, 1, 1), (2, 2, 1), (2, 1, 2), (2, 2, 2), (30, 3, 4), (60, 7, 5), (100, 2, 20), (97, 10, 10)):
    a = rng.integers(classes, size=n)
    b = np.where(rng.random(n) < 0.4, rng.integers(clusters, size=n), a % clusters)
    cases.append({"classes": classes, "clusters": clusters, "class_of": a.tolist(), "cluster": b.tolist(),
                  "v_measure": float(v_measure_score(a, b))})

points = rng.integers(-20, 21, size=(240, 5))
points[:, :2] += 15 * rng.integers(-1, 2, size=(240, 2))
fit = KMeans(n_clusters=9, n_init=200, random_state=0, tol=0).fit(points.astype(float))
json.dump({"v_measure": cases, "kmeans": {"k": 9, "points": points.tolist(), "best_inertia": float(fit.inertia_)}},
          open(sys.argv[1], "w"), separators=(",", ":"))
