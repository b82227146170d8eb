"""The paper's tables and figures, one command each: `python reproduce.py table1|table2|...|all`.

Every command needs some trained runs, a variant of EM-MIL and a seed each (paper/runs.py), and
makes a page from what they left: Markdown, CSV and PNG in OUT/reproduce-COMMAND-DATA/ (--out,
[runs]). A command that was stopped goes on where it was, and all commands share their runs. Numbers
are mean ± sample standard deviation over the seeds, from the last epoch. Nothing is selected on the
test set but the videos of `figure5 --pick best worst`, and that page says so.

`python reproduce.py compare A B` tests whether two sets of runs differ (docs/experiment.md).
"""

import sys
from typing import NamedTuple

import opts
from eval_detection import TIOUS
from formats.files import InputError
from formats.program import printed, program
from paper import claims, compare, figures, runs, sweeps, tables


class Command(NamedTuple):
    """needs: Setup -> {variant: options of run.py beside the user's}; page: Setup -> runs.Page."""

    title: str
    needs: object
    page: object


def _plain(_):
    return {"em-mil": {}}


def _of_table(title, name, tious, dataset):
    return Command(
        title,
        lambda s: tables.needs_table(s, tious),
        lambda s: tables.page_table(s, name, tious, dataset),
    )


TABLE1 = "Table 1: mAP at tIoU 0.1 to 0.7, beside the published results on THUMOS14"
TABLE2 = "Table 2: mAP at tIoU 0.5 to 0.95, beside those on ActivityNet1.2"
COMMANDS = {
    "table1": _of_table(TABLE1, "table1", TIOUS, "thumos14"),
    "table2": _of_table(TABLE2, "table2", tables.TABLE2_TIOUS, "activitynet12"),
    "table3": Command(
        "Table 3: what the pseudo-labels and the alternation contribute",
        lambda s: dict(tables.ablations(s.args.refresh).values()),
        tables.page_table3,
    ),
    "lambda": Command(
        "mAP@0.5 over lambda (Eq. 9), and over lambda and gamma at test", _plain, sweeps.page_lambda
    ),
    "gamma": Command(
        "mAP@0.5 over gamma (Eq. 5) in training and at test (Sec. 4.1)",
        lambda s: dict(sweeps.gamma_variants(s).values()),
        sweeps.page_gamma,
    ),
    "figure5": Command(
        "Figure 5: score maps, ground truth and predictions of test videos",
        _plain,
        figures.page_figure5,
    ),
    "convergence": Command(
        "The pseudo-labels of each phase, from all-positive bags on (Sec. 3.4)",
        _plain,
        figures.page_convergence,
    ),
    "timing": Command(
        "Training time of Table 1's runs, beside the paper's (Sec. 4.2)",
        lambda s: tables.needs_table(s, TIOUS),
        tables.page_timing,
    ),
    "claims": Command(
        "What the paper claims, measured here, with a verdict each",
        claims.needs_claims,
        claims.page_claims,
    ),
    "choices": Command(
        "What the paper leaves open, each choice against the default",
        claims.needs_choices,
        claims.page_choices,
    ),
}
# Table 1 is THUMOS14's, Table 2 ActivityNet1.2's; on data of another kind both are made.
OTHER_DATA = {"table1": ("activitynet12",), "table2": ("thumos14", "thumos14-unt")}


def main(argv=None):
    """Runs one command, or all of them.

    Exit code 1: a run failed, and the pages are made from the others; 2: bad input; 129, 130, 143:
    stopped by a signal, and the same command goes on.
    """
    words = sys.argv[1:] if argv is None else [str(word) for word in argv]
    with program(lambda: "; the same command goes on", last=argv is None):
        if words[:1] == ["compare"]:
            return compare.main(words[1:])
        s = setup_of(words)
        with runs.locked(s.pool):
            code = _run_commands(s)
        if code:
            sys.exit(code)


def setup_of(argv):
    """The runs.Setup of a command line, all words but the program's name."""
    args = _parser().parse_args(argv)
    return runs.set_up(args, opts.given(args), OTHER_DATA)


def _parser():
    lines = [f"  {name:<12} {command.title}" for name, command in COMMANDS.items()]
    lines += [
        f"  {'all':<12} all of these that fit the dataset; runs in common are trained once",
        f"  {'compare A B':<12} whether two sets of runs differ (see compare --help)",
    ]
    text = "The paper's tables and figures, mean ± std over seeds:\n\n" + "\n".join(lines)
    parser = opts.Parser("reproduce.py COMMAND", text)
    opts.add_flags(parser, opts.GROUPS, runs.CHOSEN)
    add = parser.add_argument
    add("command", choices=[*COMMANDS, "all"], metavar="command")
    add("--seeds", type=int, default=5, help="number of seeds, 1 to N [5]")
    add("--jobs", type=int, help="runs side by side [up to 4 on CPUs, 1 on a GPU]")
    add("--out", default="runs", help="folder for the runs and the pages [runs]")
    text = (
        "table3: how often the row Pseudo labeling makes its labels; half: as many updates [step]"
    )
    add("--joint", dest="refresh", nargs="+", choices=tables.JOINT, default=["step"], help=text)
    text = "table1: features of UntrimmedNet's backbone, for the row EM-MIL-UNT [the preset's]"
    add("--unt-features", help=text)
    add("--videos", nargs="+", default=[], help="figure5: test videos to draw, by name")
    text = "figure5: or a choice of them [best worst]"
    add("--pick", nargs="+", choices=("best", "worst", "random"), help=text)
    add("--n", type=int, default=1, help="figure5: videos of each --pick [1]")
    return parser


def _run_commands(s):
    """Trains what the commands need, then makes their pages; returns the exit code."""
    every = [name for name in COMMANDS if s.o.dataset not in OTHER_DATA.get(name, ())]
    names = every if s.args.command == "all" else [s.args.command]
    needs = {name: COMMANDS[name].needs(s) for name in names}
    for variants in needs.values():
        s.variants |= variants
    runs.train(s, [runs.planned(s, variant, seed) for variant in s.variants for seed in s.seeds])
    texts, code = [], 0
    for name in names:
        s.folder(name).mkdir(parents=True, exist_ok=True)
        try:
            page = COMMANDS[name].page(s)
        except InputError as error:
            if len(names) == 1 and not s.failed:
                raise
            printed(f"error: {name}: {error}", sys.stderr)  # the other pages go on
            code = 2
            continue
        texts.append(runs.write(s, name, COMMANDS[name].title, needs[name], page))
    if len(names) > 1 and texts:
        runs.write_all(s, texts)
    if s.failed:
        printed(f"{len(s.failed)} runs failed:", sys.stderr)
        for (variant, seed), line in s.failed.items():
            printed(f"  {variant}, seed {seed}: {line}", sys.stderr)
    return code or int(bool(s.failed))


if __name__ == "__main__":
    main()
