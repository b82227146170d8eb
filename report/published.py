"""Tables 1 to 3 of the paper as printed there: every row and value, in its order, under its names.

References are resolved from the paper's list. Values are mAP in percent.
"""

from typing import NamedTuple

TIOUS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)  # Table 1
TIOUS_2 = (0.5, 0.7, 0.9, "all")  # Table 2; "all": mean over 0.5:0.05:0.95
RANGES = {"0.1:0.5": TIOUS[:5], "0.3:0.7": TIOUS[2:], "0.1:0.7": TIOUS}
NOTE = (
    "Published rows are those of the paper's tables, as printed there; averages over a range "
    "are computed from a row's printed values where it has all of them."
)


class Published(NamedTuple):
    """A row of Table 1 or 2. values: {column: percent}, without columns left empty there."""

    method: str
    number: int | None  # in the paper's references; None: the paper's own rows
    reference: str  # author, venue, year
    supervision: str  # "full": trained on segments; "weak": on video-level labels
    values: dict


def _rows(columns, text):
    """Rows of lines "supervision; method; reference's number; reference; values", - for none."""
    rows = []
    for line in text.strip().splitlines():
        supervision, method, number, reference, values = line.strip().split("; ")
        there = {c: float(v) for c, v in zip(columns, values.split()) if v != "-"}
        number = None if number == "-" else int(number)
        rows.append(Published(method, number, reference, supervision, there))
    return rows


TABLE1 = _rows(
    TIOUS,
    """
    full; CDC; 20; Shou et al., CVPR 2017; - - 40.1 29.4 23.3 13.1 7.9
    full; R-C3D; 28; Xu et al., ICCV 2017; 54.5 51.5 44.8 35.6 28.9 - -
    full; Gao et al.; 6; Gao et al., arXiv 2017; - - 50.1 41.3 31.0 19.1 9.9
    full; SSN; 37; Zhao et al., ICCV 2017; 66.0 59.4 51.9 41.0 29.8 19.6 10.7
    full; Xu et al.; 29; Xu et al., TPAMI 2019; 56.9 54.7 51.2 43.0 36.1 - -
    full; BSN; 12; Lin et al., ECCV 2018; - - 53.5 45.0 36.9 28.4 20.0
    weak; Hide; 22; Singh and Lee, ICCV 2017; 36.4 27.8 19.5 12.7 6.8 - -
    weak; UntrimmedNet; 26; Wang et al., CVPR 2017; 44.4 37.7 28.2 21.1 13.7 - -
    weak; STPN; 17; Nguyen et al., CVPR 2018; 52.0 44.7 35.5 25.8 16.9 9.9 4.3
    weak; Autoloc; 21; Shou et al., ECCV 2018; - - 35.8 29.0 21.2 13.4 5.8
    weak; W-TALC; 19; Paul et al., ECCV 2018; 55.2 49.6 40.1 31.1 22.8 - 7.6
    weak; RefineLoc-I3D; 1; Alwassel et al., arXiv 2019; - - 40.8 - 23.1 - 5.3
    weak; Liu et al.; 14; Liu et al., ICCV 2019; - - 37.0 30.9 23.9 13.9 7.1
    weak; Yu et al.; 30; Yu et al., ICCV 2019; - - 39.5 - 24.5 - 7.1
    weak; 3C-Net; 16; Narayan et al., ICCV 2019; 59.1 53.5 44.2 34.1 26.6 - 8.1
    weak; Nguyen et al.; 18; Nguyen et al., ICCV 2019; 64.2 59.5 49.1 38.4 27.5 17.3 8.6
    weak; EM-MIL; -; Luo et al., ECCV 2020; 59.1 52.7 45.5 36.8 30.5 22.7 16.4
    weak; EM-MIL-UNT; -; Luo et al., ECCV 2020; 59.0 50.4 42.7 34.5 27.2 18.9 10.2
    """,
)

TABLE2 = _rows(
    TIOUS_2,
    """
    full; SSN; 37; Zhao et al., ICCV 2017; 41.3 30.4 13.2 26.6
    weak; UntrimmedNet; 26; Wang et al., CVPR 2017; 7.4 3.9 1.2 3.6
    weak; Autoloc; 21; Shou et al., ECCV 2018; 27.3 17.5 6.8 16.0
    weak; W-TALC; 19; Paul et al., ECCV 2018; 37.0 14.6 4.2 18.0
    weak; 3C-Net; 16; Narayan et al., ICCV 2019; 37.2 23.7 9.2 21.7
    weak; Liu et al.; 14; Liu et al., ICCV 2019; 37.1 23.4 9.2 21.6
    weak; TSM; 30; Yu et al., ICCV 2019; 28.3 18.9 7.5 17.1
    weak; EM-MIL; -; Luo et al., ECCV 2020; 37.4 23.1 2.0 20.3
    """,
)

TABLES = {"thumos14": TABLE1, "activitynet12": TABLE2}


class Ablation(NamedTuple):
    """A row of Table 3: what the model has, and its mAP@0.5 on THUMOS14."""

    method: str
    pseudo_labels: bool
    alternating: bool
    map: float


TABLE3 = [
    Ablation("Alternating model", False, True, 24.5),
    Ablation("Pseudo labeling model", True, False, 26.8),
    Ablation("Full Model", True, True, 30.5),
]

# Sec. 4.1: mAP@0.5 on THUMOS14 for gamma in [0.05, 0.2].
GAMMA = "29.0 to 30.5 for gamma in [0.05, 0.2]"
# Sec. 4.2: seconds of training on THUMOS14, and what they were measured under.
SECONDS = {"EM-MIL": 64.7, "AutoLoc": 44.5, "W-TALC": 6051.2}
SECONDS_NOTE = (
    "The paper's seconds (Sec. 4.2) are for THUMOS14 from precomputed features on a machine with "
    "two TITAN RTX GPUs: EM-MIL for 65 epochs, AutoLoc and W-TALC by their released code and "
    "recommended training, AutoLoc without the class activation scores that it needs first."
)


def with_averages(values):
    """`values` and the means over RANGES, each where `values` has all tIoUs of the range."""
    means = {
        name: sum(values[t] for t in tious) / len(tious)
        for name, tious in RANGES.items()
        if all(t in values for t in tious)
    }
    return {**values, **means}


def published_rows(dataset, methods):
    """The paper's rows of `methods` ("EM-MIL", "UntrimmedNet", "W-TALC") on one of opts' datasets.

    Returns {"NAME (paper)": {column: percent}} for `report.tables.map_table`, empty for a dataset
    that is not the paper's. For "thumos14-unt" EM-MIL's row is EM-MIL-UNT, and W-TALC has none:
    its row is of I3D features.
    """
    table = TABLES.get(dataset.removesuffix("-unt"), ())
    rows = {row.method: with_averages(row.values) for row in table}
    if dataset.endswith("-unt"):
        rows = {name: rows[name] for name in ("EM-MIL-UNT", "UntrimmedNet")}
        methods = ["EM-MIL-UNT" if method == "EM-MIL" else method for method in methods]
    return {f"{method} (paper)": rows[method] for method in methods if method in rows}


def published_table(name):
    """All rows of TABLES[name], with references, as a table of text; "-": not printed there."""
    rows = [(row, with_averages(row.values)) for row in TABLES[name]]
    columns = [*TIOUS, *RANGES] if name == "thumos14" else list(TIOUS_2)
    table = [["published mAP (%) at tIoU", "trained on", *map(_head, columns)]]
    for row, values in rows:
        number = "" if row.number is None else f" [{row.number}]"
        cells = [f"{values[column]:.1f}" if column in values else "-" for column in columns]
        table.append([f"{row.method}{number}, {row.reference}", row.supervision, *cells])
    return table


def _head(column):
    if column == "all":
        return "avg"
    return column if isinstance(column, str) else f"{column:g}"
