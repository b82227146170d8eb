"""Tables 1 to 3 of the paper as printed there."""
from typing import NamedTuple


class Published(NamedTuple):
    """A row of the literature. values: mAP in percent by tIoU ("all": mean over 0.5:0.05:0.95)."""
    method: str
    supervision: str       # "full": segments; "weak": video-level labels; "weak+count": and the number of segments
    reference: str
    values: dict


def _published(method, supervision, reference, tious, *values):
    return Published(method, supervision, reference, {t: v for t, v in zip(tious, values) if v is not None})


_T, _A = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7), (0.5, 0.7, 0.9, "all")

# What the literature of EM-MIL's Table 1 and Table 2 reports for the same test sets. PUBLISHED_NOTE goes beside them.
PUBLISHED = {"thumos14": [_published(*row) for row in (
    ("S-CNN", "full", "Shou et al., CVPR 2016", _T, 47.7, 43.5, 36.3, 28.7, 19.0, 10.3, 5.3),
    ("CDC", "full", "Shou et al., CVPR 2017", _T, None, None, 40.1, 29.4, 23.3, 13.1, 7.9),
    ("R-C3D", "full", "Xu et al., ICCV 2017", _T, 54.5, 51.5, 44.8, 35.6, 28.9),
    ("SSN", "full", "Zhao et al., ICCV 2017", _T, 66.0, 59.4, 51.9, 41.0, 29.8),
    ("TAL-Net", "full", "Chao et al., CVPR 2018", _T, 59.8, 57.1, 53.2, 48.5, 42.8, 33.8, 20.8),
    ("BSN", "full", "Lin et al., ECCV 2018", _T, None, None, 53.5, 45.0, 36.9, 28.4, 20.0),
    ("MGG", "full", "Liu et al., CVPR 2019", _T, None, None, 53.9, 46.8, 37.4, 29.5, 21.3),
    ("P-GCN", "full", "Zeng et al., ICCV 2019", _T, 69.5, 67.8, 63.6, 57.8, 49.1),
    ("Hide-and-Seek", "weak", "Singh and Lee, ICCV 2017", _T, 36.4, 27.8, 19.5, 12.7, 6.8),
    ("UntrimmedNet", "weak", "Wang et al., CVPR 2017", _T, 44.4, 37.7, 28.2, 21.1, 13.7),
    ("STPN (UNT)", "weak", "Nguyen et al., CVPR 2018", _T, 45.3, 38.8, 31.1, 23.5, 16.2, 9.8, 5.1),
    ("STPN", "weak", "Nguyen et al., CVPR 2018", _T, 52.0, 44.7, 35.5, 25.8, 16.9, 9.9, 4.3),
    ("W-TALC (UNT)", "weak", "Paul et al., ECCV 2018", _T, 49.0, 42.8, 32.0, 26.0, 18.8, None, 6.2),
    ("W-TALC", "weak", "Paul et al., ECCV 2018", _T, 55.2, 49.6, 40.1, 31.1, 22.8, None, 7.6),
    ("AutoLoc (UNT)", "weak", "Shou et al., ECCV 2018", _T, None, None, 35.8, 29.0, 21.2, 13.4, 5.8),
    ("MAAN", "weak", "Yuan et al., ICLR 2019", _T, 59.8, 50.8, 41.1, 30.6, 20.3, 12.0, 6.9),
    ("CMCS (UNT)", "weak", "Liu et al., CVPR 2019", _T, 53.5, 46.8, 37.5, 29.1, 19.9, 12.3, 6.0),
    ("CMCS", "weak", "Liu et al., CVPR 2019", _T, 57.4, 50.8, 41.2, 32.1, 23.1, 15.0, 7.0),
    ("CleanNet (UNT)", "weak", "Liu et al., ICCV 2019", _T, None, None, 37.0, 30.9, 23.9, 13.9, 7.1),
    ("3C-Net", "weak+count", "Narayan et al., ICCV 2019", _T, 59.1, 53.5, 44.2, 34.1, 26.6, None, 8.1),
    ("BM", "weak", "Nguyen et al., ICCV 2019", _T, 60.4, 56.0, 46.6, 37.5, 26.8, 17.6, 9.0),
    ("BaS-Net (UNT)", "weak", "Lee et al., AAAI 2020", _T, 56.2, 50.3, 42.8, 34.7, 25.1, 17.1, 9.3),
    ("BaS-Net", "weak", "Lee et al., AAAI 2020", _T, 58.2, 52.3, 44.6, 36.0, 27.0, 18.6, 10.4),
    ("DGAM", "weak", "Shi et al., CVPR 2020", _T, 60.0, 54.2, 46.8, 38.2, 28.8, 19.8, 11.4),
    ("EM-MIL-UNT", "weak", "Luo et al., ECCV 2020", _T, 59.0, 50.4, 42.7, 34.5, 27.2, 18.9, 10.2),
    ("EM-MIL", "weak", "Luo et al., ECCV 2020", _T, 59.1, 52.7, 45.5, 36.8, 30.5, 22.7, 16.4))],
    "activitynet12": [_published(*row) for row in (
        ("SSN", "full", "Zhao et al., ICCV 2017", _A, 41.3, 30.4, 13.2, 26.6),
        ("UntrimmedNet", "weak", "Wang et al., CVPR 2017", _A, 7.4, 3.9, 1.2, 3.6),
        ("AutoLoc", "weak", "Shou et al., ECCV 2018", _A, 27.3, 17.5, 6.8, 16.0),
        ("W-TALC", "weak", "Paul et al., ECCV 2018", _A, 37.0, 14.6, None, 18.0),
        ("TSM", "weak", "Yu et al., ICCV 2019", _A, 28.3, 18.9, 7.5, 17.1),
        ("CMCS", "weak", "Liu et al., CVPR 2019", _A, 36.8, None, None, 22.4),
        ("CleanNet", "weak", "Liu et al., ICCV 2019", _A, 37.1, 23.4, 9.2, 21.6),
        ("3C-Net", "weak+count", "Narayan et al., ICCV 2019", _A, 37.2, 23.7, 9.2, 21.7),
        ("BaS-Net", "weak", "Lee et al., AAAI 2020", _A, 38.5, None, None, 24.3),
        ("DGAM", "weak", "Shi et al., CVPR 2020", _A, 41.0, 26.9, 10.8, 24.4),
        ("EM-MIL", "weak", "Luo et al., ECCV 2020", _A, 37.4, 23.1, 2.0, 20.3))]}
NOTE = PUBLISHED_NOTE = ("Published rows are typed from memory of the literature, have not been checked against the papers' "
                  "PDFs, and need not be the very rows of the paper's table; -: not reported, or not certain.")
PAPER_EMMIL = {name: next(row.values for row in rows if row.method == "EM-MIL") for name, rows in PUBLISHED.items()}


def published_rows(dataset, methods):
    """The published rows of `methods` (our names: "EM-MIL", ...) on one of opts' datasets, for `map_table`.

    Returns {"NAME (paper)": {column: percent}}, empty for a dataset that is not the paper's. For "thumos14-unt" the
    rows with UntrimmedNet's features, where there are any.
    """
    rows = {row.method: row.values for row in PUBLISHED.get(dataset.removesuffix("-unt"), ())}
    found = {}
    for method in methods:
        unt = (f"{method}-UNT", f"{method} (UNT)") if dataset.endswith("-unt") else ()
        found.update({f"{name} (paper)": rows[name] for name in [n for n in (*unt, method) if n in rows][:1]})
    return found


def published_table(name):
    """All rows of PUBLISHED[name] with their references, in percent."""
    columns = list(dict.fromkeys(column for row in PUBLISHED[name] for column in row.values))
    columns.sort(key=lambda column: (isinstance(column, str), column))
    return [["published mAP (%) at tIoU", "trained on", *map(head, columns)]] + [
        [f"{row.method}, {row.reference}", row.supervision,
         *(f"{row.values[column]:.1f}" if column in row.values else "-" for column in columns)]
        for row in PUBLISHED[name]]


def head(column):
    return ("avg" if column == "all" else column) if isinstance(column, str) else f"{column:g}"
