"""A raw Excel workbook as a source: its sheets, its cells as text, and what is refused."""

import zipfile
from pathlib import Path

import pytest

pytest.importorskip("polars")

from souk.dataset import DatasetError, read_events
from training.data.clean.pipeline import clean
from training.data.clean.rules import read_rules
from training.data.clean.source import open_source

MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = "http://schemas.openxmlformats.org/package/2006/relationships"
HEADER = ("Invoice", "StockCode", "Description", "Quantity", "InvoiceDate", "Price", "Customer ID", "Country")
# A day as Excel has it: since 1899-12-30.
NOON = ("date", 40148.5)
Cell = str | float | tuple[str, float] | None
Sheets = dict[str, list[tuple[Cell, ...]]]


def workbook(file: Path, sheets: Sheets) -> Path:
    """Office Open XML with what a reader needs; a pair is a number in the style of a date."""
    links = "".join(
        f'<Relationship Id="r{n}" Type="{OFFICE}/worksheet" Target="worksheets/sheet{n}.xml"/>'
        for n in range(len(sheets))
    )
    links += f'<Relationship Id="styles" Type="{OFFICE}/styles" Target="styles.xml"/>'
    names = "".join(f'<sheet name="{name}" sheetId="{n + 1}" r:id="r{n}"/>' for n, name in enumerate(sheets))
    root = f'<Relationship Id="r" Type="{OFFICE}/officeDocument" Target="xl/workbook.xml"/>'
    parts = {
        "_rels/.rels": f'<Relationships xmlns="{PACKAGE}">{root}</Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{MAIN}" xmlns:r="{OFFICE}"><sheets>{names}</sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{PACKAGE}">{links}</Relationships>',
        "xl/styles.xml": f'<styleSheet xmlns="{MAIN}"><cellXfs><xf numFmtId="0"/><xf numFmtId="22"/></cellXfs>'
        "</styleSheet>",
    }
    for n, rows in enumerate(sheets.values()):
        lines = "".join(
            f'<row r="{place}">{"".join(_cell(f"{chr(65 + x)}{place}", cell) for x, cell in enumerate(row))}</row>'
            for place, row in enumerate(rows, 1)
        )
        parts[f"xl/worksheets/sheet{n}.xml"] = f'<worksheet xmlns="{MAIN}"><sheetData>{lines}</sheetData></worksheet>'
    with zipfile.ZipFile(file, "w") as archive:
        for name, part in parts.items():
            archive.writestr(name, part)
    return file


def _cell(place: str, cell: Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, str):
        return f'<c r="{place}" t="inlineStr"><is><t>{cell}</t></is></c>'
    style, value = (' s="1"', cell[1]) if isinstance(cell, tuple) else ("", cell)
    return f'<c r="{place}"{style}><v>{value}</v></c>'


def test_all_sheets_of_a_workbook_are_cleaned_one_after_another(tmp_path: Path) -> None:
    bought: tuple[Cell, ...] = (489434, "85048", "LIGHTS", 12, NOON, 6.95, 13085, "France")
    again: tuple[Cell, ...] = (489435, 85049, "CANDLES", 2, NOON, 1.5, 7, "Spain")
    nobody: tuple[Cell, ...] = (489436, "85048", "LIGHTS", 1, NOON, 6.95, None, "Spain")
    turned = (6, 5, 4, 3, 2, 1, 0, 7)
    second = [tuple(row[x] for x in turned) for row in (HEADER, again, nobody, bought)]
    file = workbook(tmp_path / "retail.xlsx", {"Year 1": [HEADER, bought], "Sheet2": [], "Year 2": second})
    accounts = clean(file, read_rules("online_retail_ii"), tmp_path / "out", lambda *_: None)
    # The line without a customer goes, and so does the one that both sheets hold.
    assert (accounts["events"].rows_in, accounts["events"].kept) == (4, 2)
    events = sorted(read_events(tmp_path / "out"), key=lambda event: event.item_id)
    assert [(one.shopper_id, one.item_id, one.quantity, one.price) for one in events] == [
        ("13085", "85048", 12, 6.95),
        ("7", "85049", 2, 1.5),
    ]


def test_a_workbook_that_cannot_be_read_is_refused_by_sheet_and_column(tmp_path: Path) -> None:
    rules = read_rules("online_retail_ii")
    other = workbook(tmp_path / "other.xlsx", {"One": [HEADER, ("a",) * 8], "Two": [("Invoice", "Note"), ("a", "b")]})
    with pytest.raises(DatasetError, match=r"other.xlsx, sheet 'Two': column 'Country' is not in both .* sheet 'One'"):
        open_source(other, rules)
    with pytest.raises(DatasetError, match=r"none.xlsx: no sheet holds a row"):
        open_source(workbook(tmp_path / "none.xlsx", {"One": [HEADER], "Two": []}), rules)
    (tmp_path / "bad.xlsx").write_bytes(b"no archive")
    with pytest.raises(DatasetError, match=r"bad.xlsx: .*invalid Zip archive"):
        open_source(tmp_path / "bad.xlsx", rules)
