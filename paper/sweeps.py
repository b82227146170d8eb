"""mAP over lambda (Eq. 9) and over gamma (Eq. 5, Sec. 3.5)."""

import numpy as np
import pandas as pd
from tqdm import tqdm

import opts
from formats.files import InputError
from paper.runs import TIOU, Page, finished, opened
from report import figures, published, tables

LAMBDAS = tuple(k / 10 for k in range(11))
GAMMAS = (0.0, 0.05, 0.1, 0.15, 0.2)  # 0.05 to 0.2 as in Sec. 4.1, and 0


def _with(values, own):
    return tuple(sorted({*values, own}))


def _map(one, protocol, **changes):
    return one.map_of(one.detections(**changes), [TIOU], protocol)[0]


def _cube(frame, *axes):
    """frame's `map` as an array (runs, *axes), each axis in ascending order."""
    frame = frame.sort_values(["seed", *axes])
    shape = (frame["seed"].nunique(), *(frame[axis].nunique() for axis in axes))
    return frame["map"].to_numpy(float).reshape(shape)


def page_lambda(s):
    """mAP@0.5 over lambda, and over lambda and gamma at test, from stored clip scores."""
    protocol, own_gamma = s.protocols[0], opts.show(s.o.gammas_at_test)
    lambdas, gammas = _with(LAMBDAS, s.o.lam), _with(GAMMAS, s.o.gammas_at_test[0])
    rows = []
    for one in tqdm(opened(s, "em-mil"), "lambda", len(finished(s, "em-mil")), disable=None):
        for lam in lambdas:
            rows.append((one.seed, lam, "own", _map(one, protocol, lam=lam)))
            for gamma in gammas:
                value = _map(one, protocol, lam=lam, test_gamma=gamma, thresholds=())
                rows.append((one.seed, lam, gamma, value))
    frame = pd.DataFrame(rows, columns=["seed", "lambda", "test_gamma", "map"])
    at_own = frame["test_gamma"] == "own"
    curve = _cube(frame[at_own], "lambda")  # (runs, lambdas)
    grid = _cube(frame[~at_own], "test_gamma", "lambda")  # (runs, gammas, lambdas)
    name, mark = f"gamma at test {own_gamma}", s.o.lam
    _draw_curves(s, "lambda", lambdas, {name: curve}, "lambda, weight of Q in L", mark)
    axes = {"xlabel": "lambda", "ylabel": "gamma at test"}
    mark = s.o.lam, s.o.gammas_at_test[0]
    _draw_grid(s, "lambda", "lambda-gamma", lambdas, gammas, grid, axes | {"mark": mark})
    table = [["lambda", "mAP@0.5 (%)"]]
    table += [[f"{lam:g}", tables.mean_std(curve[:, k])] for k, lam in enumerate(lambdas)]
    text = (
        f"One trained model per seed, nothing trained again. Protocol {protocol}, gamma at "
        f"test {own_gamma}."
    )
    more = "mAP@0.5 (%) over lambda and gamma at test, mean over the seeds"
    grid_table = _grid_table("gamma at test, lambda:", gammas, lambdas, grid)
    pictures = ["lambda.png", "lambda-gamma.png"]
    return Page([(text, table), (more, grid_table)], frame, pictures)


def _draw_curves(s, name, x, curves, xlabel, own):
    mark = own, f"preset, {own:g}"
    axes = {"xlabel": xlabel, "ylabel": "mAP@0.5 (%)", "mark": mark}
    figures.curve_figure(s.folder(name) / f"{name}.png", x=x, curves=curves, **axes)


def _draw_grid(s, name, stem, x, y, grid, axes):
    path, title = s.folder(name) / f"{stem}.png", "mAP@0.5 (%)"
    figures.heat_figure(path, x=x, y=y, values=grid, title=title, **axes)


def _grid_table(corner, rows, columns, grid):
    """The mean over the runs of grid (runs, rows, columns), in percent."""
    table = [[corner, *(f"{value:g}" for value in columns)]]
    for name, values in zip(rows, 100 * grid.mean(axis=0)):
        table.append([f"{name:g}", *(f"{value:.1f}" for value in values)])
    return table


def gamma_variants(s):
    """{gamma in training: (variant, options)}."""
    return {
        gamma: ("em-mil", {}) if gamma == s.o.gamma else (f"gamma-{gamma:g}", {"gamma": gamma})
        for gamma in _with(GAMMAS, s.o.gamma)
    }


def page_gamma(s):
    """mAP@0.5 over gamma in training, at test, and in both."""
    protocol, own = s.protocols[0], s.o.gammas_at_test[0]
    variants = {gamma: name for gamma, (name, _) in gamma_variants(s).items() if finished(s, name)}
    tests, rows = sorted({*GAMMAS, *variants, own}), []
    for gamma, variant in tqdm(variants.items(), "gamma", disable=None):
        for one in opened(s, variant):
            for test in tests:
                value = _map(one, protocol, test_gamma=test, thresholds=())
                rows.append((one.seed, gamma, test, value))
    frame = pd.DataFrame(rows, columns=["seed", "gamma", "test_gamma", "map"])
    seeds = [set(frame.loc[frame["gamma"] == gamma, "seed"]) for gamma in variants]
    whole = sorted(set.intersection(*seeds)) if seeds else []
    if not whole or s.o.gamma not in variants:
        raise InputError(s.pool, "no seed with a run at every gamma", "at least one")
    grid = _cube(frame[frame["seed"].isin(whole)], "gamma", "test_gamma")  # (runs, gammas, gammas)
    trained = list(variants)
    curves = _gamma_curves(grid, trained, tests, s.o.gamma, own)
    _draw_curves(s, "gamma", trained, curves, "gamma", s.o.gamma)
    axes = {"xlabel": "gamma at test", "ylabel": "gamma in training", "mark": (own, s.o.gamma)}
    _draw_grid(s, "gamma", "gamma-grid", tests, trained, grid, axes)
    table = [["gamma, mAP@0.5 (%)", *curves]]
    for i, gamma in enumerate(trained):
        table.append([f"{gamma:g}", *(tables.mean_std(curve[:, i]) for curve in curves.values())])
    text = (
        f"A model trained for every gamma in training and seed; protocol {protocol}; over the "
        f"seeds that have all of them ({', '.join(map(str, whole))}). The paper, on THUMOS14: "
        f"mAP@0.5 is {published.GAMMA}."
    )
    more = "mAP@0.5 (%) over gamma in training and at test, mean over the seeds"
    grid_table = _grid_table("gamma in training, at test:", trained, tests, grid)
    pictures = ["gamma.png", "gamma-grid.png"]
    return Page([(text, table), (more, grid_table)], frame, pictures, papers=True)


def _gamma_curves(grid, trained, tests, gamma, own):
    """{name: (runs, gammas)}: gamma changed in training only, at test only, in both."""
    row, column = trained.index(gamma), tests.index(own)
    at = [tests.index(value) for value in trained]
    both = np.stack([grid[:, i, k] for i, k in enumerate(at)], axis=1)
    return {
        f"training only (test {own:g})": grid[:, :, column],
        f"test only (training {gamma:g})": grid[:, row][:, at],
        "both": both,
    }
