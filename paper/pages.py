"""A page: what a command of reproduce.py prints and writes."""

import dataclasses
from typing import NamedTuple

import pandas as pd

import opts
from formats.program import log
from jobs import results
from jobs.record import commit_of, made_with, trained_on
from paper.runs import finished, flags_of
from report import tables
from report.summary import tested

NOT_MEASURED = (
    "THUMOS14 and ActivityNet1.2 have not been measured by the authors of this "
    "program, who had no features of them."
)
DATA = {
    "demo": "the embedded demo set, generated: neither THUMOS14 nor ActivityNet1.2",
    "thumos14": "THUMOS14",
    "thumos14-unt": "THUMOS14, features of the UntrimmedNet backbone",
    "activitynet12": "ActivityNet1.2",
    "custom": "a set of the user's",
}


class Page(NamedTuple):
    """The content of one page."""

    blocks: list  # (text, table or None)
    frame: pd.DataFrame  # the CSV
    data: dict  # what only this page's JSON has
    figures: list  # file names in the page's folder
    papers: bool = False  # whether it shows numbers of the paper


def head(s, title, variants, page):
    """The lines that every page begins with: title, data, runs, and what has not been measured."""
    lines, o = [title], s.o
    runs = {variant: finished(s, variant) for variant in variants}
    folders = [one.folder for of_variant in runs.values() for one in of_variant.values()]
    if folders:
        test = results.stored(folders[0])["test"]
        lines.append(
            f"Data: {DATA[o.dataset]} (features {o.features}, annotations {o.annotations}); "
            f"{tested(test)}."
        )
        done = ", ".join(f"{len(of_variant)} of {variant}" for variant, of_variant in runs.items())
        lines.append(
            f"Runs: seeds 1 to {len(s.seeds)}; finished: {done}. Last epoch, recipe "
            f"{recipe_of(s)}, mean ± sample standard deviation over the seeds; "
            f"nothing selected on the test set. {_made_with(folders)}"
        )
    given = {k: v for k, v in s.given.items() if k not in ("features", "annotations", "dataset")}
    if given:
        lines.append(f"Options given: {' '.join(flags_of(given))}")
    if s.failed:
        failed = [f"{variant} seed {seed}: {line}" for (variant, seed), line in s.failed.items()]
        lines.append("Failed runs: " + "; ".join(failed))
    if page.papers:
        lines.append(NOT_MEASURED)
        if folders and o.dataset not in ("demo", "custom"):
            lines[-1] += " Rows that are not the paper's were measured where this page was made."
    return lines


def recipe_of(s):
    """The recipe of the runs, which have the same number of processes (see paper/runs.py)."""
    return opts.recipe_of(s.o, s.environment["processes"])


def _made_with(folders):
    """Code of the runs, the same for all (see paper/runs.py), and where they were trained."""
    made = [made_with(folder)[-1] for folder in folders]
    commits, places = ({function(one) for one in made} for function in (commit_of, trained_on))
    return (
        f"Code {made[0]['code']} (commit {', '.join(sorted(commits))}), trained on "
        f"{'; '.join(sorted(places))}."
    )


def write(s, name, lines, page):
    """Prints and writes a page, `lines` its head; returns its Markdown for a folder beside it."""
    folder = s.folder(name)
    log.info("\n" + "\n".join(lines) + "\n")
    log.info("\n\n".join(tables.block(*block, tables.text) for block in page.blocks))
    log.info(f"\nFiles: {folder}/")
    title, *about = lines
    body = [f"# {title}", *about]
    body += [tables.block(*block, tables.markdown) for block in page.blocks]
    pictures = [f"![{file}]({file})" for file in page.figures]
    tables.write_text(folder / f"{name}.md", "\n\n".join(body + pictures))
    tables.write_csv(folder / f"{name}.csv", page.frame)
    tables.write_json(
        folder / f"{name}.json",
        {
            "command": name,
            "dataset": s.o.dataset,
            "seeds": list(s.seeds),
            "about": about,
            "recipe": recipe_of(s),
            "options": dataclasses.asdict(s.o),
            **page.data,
            "rows": page.frame.to_dict("records"),
            "figures": page.figures,
        },
    )
    return "\n\n".join(body + [f"![{file}](../{folder.name}/{file})" for file in page.figures])


def write_all(s, texts):
    """All pages of one call in one file."""
    folder = s.folder("all")
    folder.mkdir(parents=True, exist_ok=True)
    tables.write_text(folder / "all.md", "\n\n".join(texts))
    log.info(f"\nAll pages: {folder}/all.md")
