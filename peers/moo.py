#!/usr/bin/env python3
"""Golden cases of multi-objective selection and surrogates: inputs of its own, outputs by pymoo and SciPy.

    pip install pymoo scipy                       # tested with pymoo 0.6.2, SciPy 1.17.1
    python3 moo.py [--check] ../tests/golden/moo/1   # writes inputs.json and outputs.json there

All objectives are minimised. Crowding is taken within each front; a point alone is
infinitely far, as in pymoo's survival. The largest trade-offs are listed from the smallest.
`--check` computes the outputs of a folder's inputs again and prints the largest difference, relative above 1.
"""

import argparse, json, math, pathlib

import numpy as np
from pymoo.core.decision_making import NeighborFinder
from pymoo.indicators.hv import HV
from pymoo.mcdm.high_tradeoff import HighTradeoffPoints
from pymoo.operators.survival.rank_and_crowding.metrics import calc_crowding_distance
from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting
from scipy.interpolate import RBFInterpolator
from scipy.stats import kendalltau, pearsonr, spearmanr


def inputs(rng) -> dict:
    integers = lambda low, high, *shape: rng.integers(low, high, shape).astype(float)
    curve = np.sort(rng.random(22))
    bent = np.c_[curve, (1 - curve**0.7) ** 1.3] + 0.04 * rng.random((22, 2))
    x = integers(0, 5, 36, 6)
    return {
        "hv": [
            {"points": (4 + 6 * rng.random((15, 2))).tolist(), "ref": [9.5, 9.0]},
            {"points": rng.random((24, 2)).tolist(), "ref": [1.0, 0.8]},
            {"points": rng.random((18, 3)).tolist(), "ref": [1.0, 1.1, 0.9]},
        ],
        # One decimal: many are equal in an objective, some in both.
        "nds_points": (integers(0, 60, 70, 2) / 10).tolist(),
        "ht_points": bent.tolist(),
        "ht_points_raw": (bent * [40, 2e6] + [20, 1e5]).tolist(),
        "rbf_train_x": x.tolist(),
        "rbf_train_y": (x @ rng.normal(size=6) + np.sin(x).sum(1) + 20).tolist(),
        "rbf_test_x": integers(0, 5, 12, 6).tolist(),
        "rank_pairs": [
            rng.random((2, 30)).tolist(),
            integers(0, 6, 2, 40).tolist(),
            [integers(0, 3, 25).tolist(), rng.random(25).tolist()],
        ],
    }


def trade_offs(points: np.ndarray) -> dict:
    front = np.sort(NonDominatedSorting().do(points, only_non_dominated_front=True))
    kept = points[front]
    found = {"non_dominated_indices": front.tolist()}
    for normalise in (True, False):
        bounds = {"ideal": kept.min(0), "nadir": kept.max(0)} if normalise else {}
        picker = HighTradeoffPoints(epsilon=0.125, zero_to_one=normalise, **bounds)
        picked = np.sort(front[np.atleast_1d(picker.do(kept))])
        scaled = (kept - kept.min(0)) / (kept.max(0) - kept.min(0)) if normalise else kept
        mu = mu_of(scaled)
        found[f"pymoo,zero_to_one={normalise}"] = picked.tolist()
        found[f"mu_by_original_index,zero_to_one={normalise}"] = {str(i): float(m) for i, m in zip(front, mu)}
        for n in (3, 5):
            found[f"cnas,n_survive={n},zero_to_one={normalise}"] = front[np.argsort(mu)[-n:]].tolist()
    return found


def mu_of(points: np.ndarray, epsilon: float = 0.125) -> np.ndarray:
    """The least ratio of what is lost to what is gained by a step to a neighbour, as pymoo defines neighbours."""
    finder = NeighborFinder(points, epsilon=epsilon, n_min_neigbors="auto", consider_2d=False)
    mu = np.full(len(points), np.nan)
    for i, point in enumerate(points):
        steps = points[finder.find(i)] - point
        gain = np.maximum(0, -steps).sum(1)
        loss = np.maximum(0, steps).sum(1)
        with np.errstate(divide="ignore", invalid="ignore"):
            mu[i] = np.nanmin(loss / gain)
    return mu


def outputs(given: dict) -> dict:
    points = np.array(given["nds_points"])
    fronts, rank = NonDominatedSorting().do(points, return_rank=True)
    crowding = np.zeros(len(points))
    for front in fronts:
        crowding[front] = calc_crowding_distance(points[front]) if len(front) > 1 else math.inf
    x, y, at = (np.array(given[f"rbf_{name}"]) for name in ("train_x", "train_y", "test_x"))
    radial = np.abs(np.linalg.norm(x[:, None] - x[None], axis=2)) ** 3 + 1e-6 * np.eye(len(x))
    tail = np.c_[np.ones(len(x)), x]
    zeros = np.zeros((tail.shape[1],) * 2)
    solved = np.linalg.solve(np.block([[radial, tail], [tail.T, zeros]]), np.r_[y, np.zeros(tail.shape[1])])
    coefficients, linear = solved[: len(x)], solved[len(x) :]
    cubes = np.linalg.norm(at[:, None] - x[None], axis=2) ** 3
    interpolated = RBFInterpolator(x, y, kernel="cubic", degree=1, smoothing=1e-6)(at)
    return {
        "hv": [float(HV(ref_point=np.array(case["ref"]))(np.array(case["points"]))) for case in given["hv"]],
        "nds_rank": rank.tolist(),
        "nds_fronts": [sorted(front.tolist()) for front in fronts],
        "crowding": crowding.tolist(),
        "high_tradeoff": {name: trade_offs(np.array(given[name])) for name in ("ht_points", "ht_points_raw")},
        "rbf": {
            "direct_solve": (cubes @ coefficients + np.c_[np.ones(len(at)), at] @ linear).tolist(),
            "scipy_RBFInterpolator": interpolated.tolist(),
            "tail_coeffs[1,x0..]": linear.tolist(),
        },
        "rank": [
            {"kendalltau": kendalltau(*pair)[0], "spearman": spearmanr(*pair)[0], "pearson": pearsonr(*pair)[0]}
            for pair in given["rank_pairs"]
        ],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--check", action="store_true", help="compare with the outputs that are there instead")
    args = parser.parse_args()
    if args.check:
        given = json.loads((args.folder / "inputs.json").read_text())
        want = json.loads((args.folder / "outputs.json").read_text())
        return print(json.dumps({"largest_difference": difference(outputs(given), want)}))
    args.folder.mkdir(parents=True, exist_ok=True)
    given = inputs(np.random.default_rng(args.seed))
    strict = lambda value: {math.inf: "inf"}.get(value, value) if isinstance(value, float) else value
    found = outputs(given)
    found["crowding"] = [strict(value) for value in found["crowding"]]
    for name, value in (("inputs", given), ("outputs", found)):
        (args.folder / f"{name}.json").write_text(json.dumps(value, allow_nan=False) + "\n")


def difference(got, want) -> float:
    """The largest difference of numbers; infinite where something is missing."""
    if isinstance(want, dict):
        return max((difference(got[key], value) for key, value in want.items() if key in got), default=0.0)
    if isinstance(want, list):
        if len(got) != len(want):
            return math.inf
        return max((difference(a, b) for a, b in zip(got, want)), default=0.0)
    got, want = float(got), float(want)
    return 0.0 if got == want else abs(got - want) / max(1.0, abs(want))


if __name__ == "__main__":
    main()
