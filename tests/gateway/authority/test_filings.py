"""Published lists come in as they stand, whatever their encoding and headings; licenses are attested against their rows."""

from __future__ import annotations

import datetime
import hashlib
import io
import random
import zipfile

import openpyxl
import pytest

from gateway.authority.filings import (
    Snapshot,
    attest,
    diff,
    digest_of,
    encode,
    iso_date,
    load_snapshot,
    read_list,
    row_of,
    shape_warning,
)
from gateway.authority.sheets import UNPACKED_BYTES_MAX, FilingsError
from gateway.license.claims import read_claims

NAME = "生成式人工智能服务已备案信息"
CHINESE = """序号,属地,模型名称,备案单位,备案编号,备案时间
1,北京,云雀大模型,北京抖音信息服务有限公司,Beijing-YunQue-20230821,2023年8月31日
2,北京,文心一言,百度在线网络技术（北京）有限公司,Beijing-WenXinYiYan-20230818,2023/8/31
3,上海,某登记应用,某公司,Shanghai-0012,2024年3月28日
"""
ENGLISH = """No.;Model name;Holder;Province;Filing number;Filing date
1;YunQue;Douyin;Beijing;Beijing-YunQue-20230821;2023-08-31
"""


def read(text: str | bytes, **more: object) -> Snapshot:
    data = text.encode() if isinstance(text, str) else text
    options = {"source": "list.csv", "list_name": NAME, "captured_at": "2026-11-01", **more}
    return read_list(data, **options)[0]  # type: ignore[arg-type]


def workbook() -> bytes:
    book = openpyxl.Workbook()
    book.active.title = "说明"
    book.active["A1"] = "本表由网信部门发布"
    sheet = book.create_sheet("公告")
    sheet["A1"] = NAME
    sheet.merge_cells("A1:F1")
    sheet.append(["序号", "属地", "模型名称", "备案单位", "备案编号", "备案时间"])
    sheet.append([1, "北京", "云雀大模型", "北京抖音", "Beijing-YunQue-20230821", datetime.datetime(2023, 8, 31)])
    sheet.append([2, None, "文心一言", "百度", "Beijing-WenXinYiYan-20230818", "2023年8月31日"])
    sheet.merge_cells("B3:B4")
    sheet.append(["注：排名不分先后"])
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


@pytest.fixture(scope="module")
def xlsx() -> bytes:
    return workbook()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030"])
def test_a_csv_reads_the_same_in_each_encoding(encoding: str) -> None:
    data = CHINESE.encode(encoding)
    snapshot = read(data)
    assert snapshot.columns == {
        "no": "备案编号",
        "model": "模型名称",
        "holder": "备案单位",
        "province": "属地",
        "date": "备案时间",
        "serial": "序号",
    }
    assert [snapshot.value(row, "model") for row in snapshot.rows] == ["云雀大模型", "文心一言", "某登记应用"]
    assert [row.row for row in snapshot.rows] == [2, 3, 4]
    assert snapshot.source_digest == f"sha256:{hashlib.sha256(data).hexdigest()}"


def test_english_headings_and_semicolons_are_known() -> None:
    snapshot = read(ENGLISH)
    (row,) = snapshot.find("Beijing-YunQue-20230821")
    assert snapshot.value(row, "holder") == "Douyin"
    assert snapshot.value(row, "date") == "2023-08-31"


def test_a_spreadsheet_is_read_past_titles_notes_and_merged_cells(xlsx: bytes) -> None:
    snapshot, warnings = read_list(xlsx, source="list.xlsx", list_name=NAME, captured_at="2026-11-01")
    assert (snapshot.sheet, snapshot.header_row) == ("公告", 2)
    assert [snapshot.value(row, "province") for row in snapshot.rows] == ["北京", "北京"]
    assert [snapshot.value(row, "date") for row in snapshot.rows] == ["2023-08-31", "2023年8月31日"]
    assert [w for w in warnings if "row 5" in w and "note" in w]


def test_columns_and_header_row_can_be_said() -> None:
    text = "公告,,\n甲,乙,丙\nX-1,模型,公司\n"
    with pytest.raises(FilingsError, match=r"sheet 'csv'.*no header with a number column.*--column"):
        read(text)
    snapshot = read(text, columns={"no": "甲", "model": "乙"}, header_row=2)
    assert snapshot.value(snapshot.rows[0], "model") == "模型"
    with pytest.raises(FilingsError, match=r"row 2: no column is headed '丁'"):
        read(text, columns={"no": "丁"}, header_row=2)
    with pytest.raises(FilingsError, match="'nr' is not a field; the fields are no, model"):
        read(text, columns={"nr": "甲"})


def long_number() -> bytes:
    book = openpyxl.Workbook()
    book.active.append(["模型名称", "备案编号"])
    book.active.append(["甲", 110101000000000000001.0])
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(
            CHINESE.replace("Shanghai-0012", "").encode(),
            r"list\.csv: sheet 'csv', row 4, column '备案编号': empty",
            id="a row without its number",
        ),
        pytest.param(long_number(), "row 2, column '备案编号': the number has lost its last digits", id="cut digits"),
        pytest.param(b"", "the file is empty", id="empty"),
        pytest.param(CHINESE.encode("utf-16"), "neither UTF-8 nor GB18030", id="UTF-16"),
        pytest.param(b"a,b\n\xff\xff\xff", "line 2 is neither", id="no text"),
        pytest.param(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "save it as XLSX or CSV", id="old XLS"),
        pytest.param(b"PK\x03\x04 and no more", "not a readable XLSX", id="half a ZIP"),
        pytest.param('备案编号,模型\n"X,甲\n'.encode(), "check its quotes", id="an open quote"),
        pytest.param("备案编号,模型名称\n".encode(), "no row below its header in row 1", id="no rows"),
        pytest.param(("备案编号,模型名称\nX," + "字" * 5000).encode(), "row 2, column 2: more than", id="a huge cell"),
    ],
)
def test_what_cannot_be_used_says_where(data: bytes, message: str) -> None:
    with pytest.raises(FilingsError, match=message):
        read(data)


def test_l9_a_spreadsheet_that_unpacks_to_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.authority.sheets.UNPACKED_BYTES_MAX", 4 << 20)
    assert UNPACKED_BYTES_MAX > 4 << 20
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/worksheets/sheet1.xml", b"0" * (5 << 20))
    bomb = out.getvalue()
    with pytest.raises(FilingsError, match="unpacks to more than"):
        read(bomb)
    # One that says it is small: both copies of its size are changed.
    lying = bomb.replace((5 << 20).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    assert lying != bomb
    with pytest.raises(FilingsError, match="unpacks to more than"):
        read(lying)


def test_a_snapshot_is_the_same_file_again_and_says_when_it_was_changed() -> None:
    snapshot = read(CHINESE)
    data = encode(snapshot)
    assert load_snapshot(data, source="s.json") == snapshot
    assert digest_of(snapshot) == f"sha256:{hashlib.sha256(data).hexdigest()}"
    with pytest.raises(FilingsError, match=r"s\.json: .*captured_at"):
        load_snapshot(data.replace(b"2026-11-01", b"yesterday"), source="s.json")
    with pytest.raises(FilingsError, match="columns"):
        load_snapshot(data.replace(b'"no":', b'"na":'), source="s.json")


def test_a_difference_names_rows_that_vanished_appeared_and_changed() -> None:
    before = read(CHINESE)
    later = CHINESE.replace("3,上海,某登记应用,某公司,Shanghai-0012,2024年3月28日\n", "")
    later = later.replace("文心一言", "文心大模型").replace("备案单位", "备案主体")  # a renamed heading is no change
    later = later.replace("2,北京", "7,北京") + "4,广东,甲,乙,Guangdong-JiaYi-20250101,2025-01-02\n"
    found = diff(before, read(later, captured_at="2026-11-08"))
    assert [before.value(row, "no") for row in found.vanished] == ["Shanghai-0012"]
    assert [row.row for row in found.appeared] == [4]
    (change,) = found.changed
    assert change.no == "Beijing-WenXinYiYan-20230818"
    assert dict(change.cells) == {"model": ("文心一言", "文心大模型")}


def test_an_attested_license_carries_the_row_and_the_snapshot() -> None:
    snapshot = read(CHINESE)
    claims, warnings = attest(
        snapshot,
        "Ｂｅｉｊｉｎｇ-YunQue－20230821 ",  # typed in full width
        issuer="https://compliance.example",
        model="yunque",
        origins=["https://api.example.com"],
        served=["yunque"],
        jurisdictions=["cn"],
        purposes=["customer-service"],
        modalities=["text"],
        not_before_s=1,
        expires_s=2,
        issued_s=1,
    )
    assert warnings == []
    terms = read_claims(claims).license
    assert terms.trust_level == "attested"
    assert terms.regime == "cn-beian"
    assert terms.filing is not None
    assert terms.filing.no == "Beijing-YunQue-20230821"
    assert terms.filing.province == "北京"
    assert terms.filing.list_name == NAME
    assert terms.filing.list_row == "csv!2"
    assert terms.filing.list_snapshot_digest == digest_of(snapshot)
    assert terms.filing.captured_at == "2026-11-01"
    assert terms.filing.filed_at == "2023-08-31"
    assert terms.holder is not None
    assert terms.holder.legal_name == "北京抖音信息服务有限公司"


def test_a_number_that_is_not_in_the_list_or_twice_is_not_attested() -> None:
    snapshot = read(CHINESE + "4,上海,另一应用,某公司,Shanghai-0012,2024年3月28日\n")
    with pytest.raises(FilingsError, match="'Shanghai-9999' is not in"):
        row_of(snapshot, "Shanghai-9999")
    with pytest.raises(FilingsError, match="stands in the rows 4, 5; say which with --list-row"):
        row_of(snapshot, "Shanghai-0012")
    assert row_of(snapshot, "Shanghai-0012", 5).row == 5


@pytest.mark.parametrize(
    ("no", "warns"),
    [
        pytest.param("Beijing-YunQue-20230821", False, id="model filing"),
        pytest.param("Beijing-YunQue-20231341", True, id="a date that does not exist"),
        pytest.param("网信算备110108823483901230031号", False, id="algorithm filing"),
        pytest.param("网信算备11010882348390123003号", True, id="20 digits"),
        pytest.param("Shanghai-0012", True, id="unknown shape"),
    ],
)
def test_the_shape_of_a_number_only_warns(no: str, warns: bool) -> None:
    assert (shape_warning(no) is not None) is warns
    _, warnings = read_list(f"备案号,模型名称\n{no},甲\n".encode(), source="l", list_name="n", captured_at="2026-11-01")
    assert bool(warnings) is warns


@pytest.mark.parametrize(
    ("text", "iso"),
    [
        ("2024年3月28日", "2024-03-28"),
        ("2024/3/28", "2024-03-28"),
        ("２０２４．３．２８", "2024-03-28"),
        ("20240328", "2024-03-28"),
        ("2024-03-28 10:00:00", "2024-03-28"),
        ("2024年2月30日", None),
        ("2024年3月", None),
        ("", None),
    ],
)
def test_dates_are_read_as_lists_write_them(text: str, iso: str | None) -> None:
    assert iso_date(text) == iso


def test_whatever_is_in_a_file_it_is_read_or_refused_with_a_reason(xlsx: bytes) -> None:
    chance = random.Random(7)
    outcomes: set[str] = set()
    for source in (xlsx, CHINESE.encode(), CHINESE.encode("gb18030")) * 20:
        data = bytearray(source)
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        try:
            outcomes.add(type(read(bytes(data))).__name__)
        except FilingsError as error:
            outcomes.add(str(error).partition(":")[0])
    assert outcomes == {"Snapshot", "list.csv"}
