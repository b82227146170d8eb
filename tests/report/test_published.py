"""The paper's tables: as printed there, with references resolved from its list."""

import csv
import re

import pytest
from places import SHARED, STORED

from report import published

TEXT = SHARED / "paper" / "em-mil-eccv2020.md"
needs_text = pytest.mark.skipif(not TEXT.exists(), reason=f"no text of the paper at {TEXT}")


def printed(number):
    """The rows of a table's CSV, as dicts of text."""
    with open(STORED / "paper" / f"table{number}.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def name_of(row):
    """The method as the table prints it."""
    return f"{row.method} (ours)" if row.number is None else f"{row.method} [{row.number}]"


@pytest.mark.parametrize(
    "number, rows, columns",
    [
        (1, published.TABLE1, {t: f"{t:g}" for t in published.TIOUS}),
        (2, published.TABLE2, {0.5: "0.5", 0.7: "0.7", 0.9: "0.9", "all": "0.5:0.95"}),
    ],
)
def test_tables_1_and_2_are_the_papers(number, rows, columns):
    ours = []
    for row in rows:
        values = {
            head: f"{row.values[column]:.1f}" if column in row.values else ""
            for column, head in columns.items()
        }
        ours.append({"supervision": row.supervision, "method": name_of(row), **values})
    assert ours == printed(number)


def test_table_3_is_the_papers():
    word = {True: "yes", False: "no"}
    assert [
        {
            "method": row.method,
            "pseudo_labels": word[row.pseudo_labels],
            "alternating": word[row.alternating],
            "mAP@0.5": f"{row.map:.1f}",
        }
        for row in published.TABLE3
    ] == printed(3)


@needs_text
def test_references_are_those_of_the_papers_list():
    text = TEXT.read_text(encoding="utf-8").split("### References")[1]
    entries = [line for line in text.replace("\n   In:", " In:").splitlines() if line.strip()]
    assert len(entries) == 38
    venues = {
        "CVPR": "computer vision and pattern recognition",
        "ICCV": "international conference on computer vision",
        "ECCV": "european conference on computer vision",
        "arXiv": "arxiv",
        "TPAMI": "pattern analysis and machine intelligence",
    }
    for row in (*published.TABLE1, *published.TABLE2):
        if row.number is not None:
            entry = entries[row.number - 1]
            author, venue, year = re.fullmatch(
                r"(\w+)(?: et al\.| and \w+), (\w+) (\d+)", row.reference
            ).groups()
            assert f"{author}," in entry and f"({year})" in entry, row
            assert venues[venue] in entry.lower(), row


@needs_text
def test_the_numbers_of_the_text_are_in_the_text():
    text = TEXT.read_text(encoding="utf-8")
    assert "taking 64.7s on two TITAN RTX GPUs" in text and "44.5s and 6051.2s" in text
    assert published.SECONDS == {"EM-MIL": 64.7, "AutoLoc": 44.5, "W-TALC": 6051.2}
    assert "varies between 29.0% and 30.5%" in text and "29.0 to 30.5" in published.GAMMA


def test_averages_of_a_row_are_computed_where_all_values_are_there():
    ours = published.published_rows("thumos14", ["EM-MIL"])["EM-MIL (paper)"]
    assert ours["0.1:0.5"] == pytest.approx((59.1 + 52.7 + 45.5 + 36.8 + 30.5) / 5)  # 44.92
    assert ours["0.3:0.7"] == pytest.approx((45.5 + 36.8 + 30.5 + 22.7 + 16.4) / 5)  # 30.38
    assert ours["0.1:0.7"] == pytest.approx(263.7 / 7)
    cdc = published.with_averages(published.TABLE1[0].values)
    assert cdc.keys() == {0.3, 0.4, 0.5, 0.6, 0.7, "0.3:0.7"}
    assert cdc["0.3:0.7"] == pytest.approx(113.8 / 5)
    assert "0.3:0.7" not in published.with_averages({0.3: 1.0, 0.4: 1.0, 0.5: 1.0, 0.7: 1.0})


def test_rows_of_a_dataset():
    methods = ["EM-MIL", "UntrimmedNet", "W-TALC"]
    rows = published.published_rows("thumos14", methods)
    assert list(rows) == ["EM-MIL (paper)", "UntrimmedNet (paper)", "W-TALC (paper)"]
    assert rows["W-TALC (paper)"][0.5] == 22.8 and 0.6 not in rows["W-TALC (paper)"]
    unt = published.published_rows("thumos14-unt", methods)
    assert list(unt) == ["EM-MIL-UNT (paper)", "UntrimmedNet (paper)"]
    assert unt["EM-MIL-UNT (paper)"][0.7] == 10.2
    assert published.published_rows("activitynet12", ["W-TALC", "nobody's"]) == {
        "W-TALC (paper)": {0.5: 37.0, 0.7: 14.6, 0.9: 4.2, "all": 18.0}
    }
    for dataset in ("demo", "custom"):
        assert published.published_rows(dataset, methods) == {}


def test_table_of_a_dataset_shows_every_row_with_its_reference():
    table = published.published_table("activitynet12")
    assert table[0] == ["published mAP (%) at tIoU", "trained on", "0.5", "0.7", "0.9", "avg"]
    assert table[4][:2] == ["W-TALC [19], Paul et al., ECCV 2018", "weak"]
    assert table[4][2:] == ["37.0", "14.6", "4.2", "18.0"]
    assert table[-1][:2] == ["EM-MIL, Luo et al., ECCV 2020", "weak"]
    table = published.published_table("thumos14")
    assert len(table) == 19 and table[0][-3:] == ["0.1:0.5", "0.3:0.7", "0.1:0.7"]
    assert table[1][2:] == ["-", "-", "40.1", "29.4", "23.3", "13.1", "7.9", "-", "22.8", "-"]
