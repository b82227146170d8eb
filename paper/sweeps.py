"""mAP over lambda (Eq. 9) and over gamma (Eq. 5, Sec. 3.5)."""

import numpy as np
import pandas as pd
from tqdm import tqdm

import opts
from formats.files import InputError
from paper.pages import Page
from paper.runs import finished, map_at, opened, protocols
from report import figures, published, tables

LAMBDAS = tuple(k / 10 for k in range(11))
GAMMAS = (0.0, 0.05, 0.1, 0.15, 0.2)  # 0.05 to 0.2 as in Sec. 4.1, and 0


def _with(values, own):
    return tuple(sorted({*values, own}))


def _cube(frame, *axes):
    """frame's `map` as an array (runs, *axes), each axis in ascending order."""
    frame = frame.sort_values(["seed", *axes])
    shape = (frame["seed"].nunique(), *(frame[axis].nunique() for axis in axes))
    return frame["map"].to_numpy(float).reshape(shape)


def page_lambda(s):
    """mAP@0.5 over lambda, and over lambda and gamma at test, from stored clip scores."""
    protocol, own_gamma = protocols(s)[0], opts.show(s.o.gammas_at_test)
    lambdas, gammas = _with(LAMBDAS, s.o.lam), _with(GAMMAS, s.o.gammas_at_test[0])
    rows = []
    for one in tqdm(opened(s, "em-mil"), "lambda", len(finished(s, "em-mil")), disable=None):
        for lam in lambdas:
            rows.append((one.seed, lam, "own", map_at(one, [0.5], protocol, lam=lam)[0]))
            for gamma in gammas:
                value = map_at(one, [0.5], protocol, lam=lam, test_gamma=gamma, thresholds=())[0]
                rows.append((one.seed, lam, gamma, value))
    frame = pd.DataFrame(rows, columns=["seed", "lambda", "test_gamma", "map"])
    at_own = frame["test_gamma"] == "own"
    curve = _cube(frame[at_own], "lambda")  # (runs, lambdas)
    grid = _cube(frame[~at_own], "test_gamma", "lambda")  # (runs, gammas, lambdas)
    folder = s.folder("lambda")
    figures.curve_figure(
        folder / "lambda.png",
        x=lambdas,
        curves={f"gamma at test {own_gamma}": curve},
        xlabel="lambda, weight of Q in L",
        ylabel="mAP@0.5 (%)",
        mark=(s.o.lam, f"preset, {s.o.lam:g}"),
    )
    figures.heat_figure(
        folder / "lambda-gamma.png",
        x=lambdas,
        y=gammas,
        values=grid,
        xlabel="lambda",
        ylabel="gamma at test",
        title="mAP@0.5 (%)",
        mark=(s.o.lam, s.o.gammas_at_test[0]),
    )
    table = [["lambda", "mAP@0.5 (%)"]]
    table += [[f"{lam:g}", tables.mean_std(curve[:, k])] for k, lam in enumerate(lambdas)]
    text = (
        f"One trained model per seed, nothing trained again. Protocol {protocol}, gamma at "
        f"test {own_gamma}."
    )
    blocks = [
        (text, table),
        (
            "mAP@0.5 (%) over lambda and gamma at test, mean over the seeds",
            _grid_table("gamma at test, lambda:", gammas, lambdas, grid),
        ),
    ]
    return Page(
        blocks,
        frame,
        {"lambdas": lambdas, "gammas": gammas, "map": curve, "grid": grid},
        ["lambda.png", "lambda-gamma.png"],
    )


def _grid_table(corner, rows, columns, grid):
    """The mean over the runs of grid (runs, rows, columns), in percent."""
    table = [[corner, *(f"{value:g}" for value in columns)]]
    for name, values in zip(rows, 100 * grid.mean(axis=0)):
        table.append([f"{name:g}", *(f"{value:.1f}" for value in values)])
    return table


def gamma_variants(s):
    """{gamma in training: variant}."""
    return {
        gamma: "em-mil" if gamma == s.o.gamma else f"gamma-{gamma:g}"
        for gamma in _with(GAMMAS, s.o.gamma)
    }


def needs_gamma(s):
    """{variant: options} of the gamma page."""
    return {
        variant: {} if variant == "em-mil" else {"gamma": gamma}
        for gamma, variant in gamma_variants(s).items()
    }


def page_gamma(s):
    """mAP@0.5 over gamma in training, at test, and in both."""
    protocol, own = protocols(s)[0], s.o.gammas_at_test[0]
    variants = {
        gamma: variant for gamma, variant in gamma_variants(s).items() if finished(s, variant)
    }
    tests, rows = sorted({*GAMMAS, *variants, own}), []
    for gamma, variant in tqdm(variants.items(), "gamma", disable=None):
        for one in opened(s, variant):
            for test in tests:
                value = map_at(one, [0.5], protocol, test_gamma=test, thresholds=())[0]
                rows.append((one.seed, gamma, test, value))
    frame = pd.DataFrame(rows, columns=["seed", "gamma", "test_gamma", "map"])
    seeds = [set(frame.loc[frame["gamma"] == gamma, "seed"]) for gamma in variants]
    whole = sorted(set.intersection(*seeds)) if seeds else []
    if not whole or s.o.gamma not in variants:
        raise InputError(
            f"{s.pool}: found no seed with a run at every gamma, expected at least one"
        )
    grid = _cube(frame[frame["seed"].isin(whole)], "gamma", "test_gamma")  # (runs, gammas, gammas)
    trained = list(variants)
    curves = _gamma_curves(grid, trained, tests, s.o.gamma, own)
    _draw_gamma(s, trained, tests, curves, grid)
    table = [["gamma, mAP@0.5 (%)", *curves]]
    for i, gamma in enumerate(trained):
        table.append([f"{gamma:g}", *(tables.mean_std(curve[:, i]) for curve in curves.values())])
    text = (
        f"A model trained for every gamma in training and seed; protocol {protocol}; over the "
        f"seeds that have all of them ({', '.join(map(str, whole))}). The paper, on THUMOS14: "
        f"mAP@0.5 is {published.GAMMA}."
    )
    blocks = [
        (text, table),
        (
            "mAP@0.5 (%) over gamma in training and at test, mean over the seeds",
            _grid_table("gamma in training, at test:", trained, tests, grid),
        ),
    ]
    data = {"seeds_of_the_grid": whole, "gammas": trained, "gammas_at_test": tests, "grid": grid}
    return Page(blocks, frame, data, ["gamma.png", "gamma-grid.png"], papers=True)


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


def _draw_gamma(s, trained, tests, curves, grid):
    own = s.o.gammas_at_test[0]
    folder = s.folder("gamma")
    figures.curve_figure(
        folder / "gamma.png",
        x=trained,
        curves=curves,
        xlabel="gamma",
        ylabel="mAP@0.5 (%)",
        mark=(s.o.gamma, f"preset, {s.o.gamma:g}"),
    )
    figures.heat_figure(
        folder / "gamma-grid.png",
        x=tests,
        y=trained,
        values=grid,
        xlabel="gamma at test",
        ylabel="gamma in training",
        title="mAP@0.5 (%)",
        mark=(own, s.o.gamma),
    )
