"""Forms: what is read, what is refused, and that other readers read what is accepted in the same way."""

from __future__ import annotations

import asyncio
import email.parser
import email.policy
import hashlib
from collections.abc import MutableMapping, Sequence
from pathlib import Path
from typing import Any

import httpx2
import pytest
from aiohttp import BodyPartReader, MultipartReader
from aiohttp.base_protocol import BaseProtocol
from aiohttp.streams import StreamReader
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.edge import ClientDisconnect
from gateway.errors import CallerError
from gateway.protocols.training import FORMS, Act, Form, Part
from gateway.reasons import Reason
from gateway.training.form import FIELD_BYTES_MAX, PARTS_MAX, FormReader, boundary_of, content_type
from gateway.training.spool import UPLOADS_MAX, Spool

B = b"x-boundary-x"
FILE = b'{"messages": []}\n'
DISPOSITION = b'Content-Disposition: form-data; name="%b"\r\n'
FILE_HEAD = b'Content-Disposition: form-data; name="file"; filename="%b"\r\nContent-Type: application/jsonl\r\n'


def part(head: bytes, content: bytes) -> bytes:
    return b"--" + B + b"\r\n" + head + b"\r\n" + content + b"\r\n"


def form(*parts: bytes, end: bytes = b"--" + B + b"--\r\n") -> bytes:
    return b"".join(parts) + end


PURPOSE = part(DISPOSITION % b"purpose", b"fine-tune")
THE_FILE = part(FILE_HEAD % b"a.jsonl", FILE)
GOOD = form(PURPOSE, THE_FILE)


def read(body: bytes, act: Act = Act.UPLOAD, *, cuts: Sequence[int] = (), boundary: bytes = B) -> tuple[Part, ...]:
    reader = FormReader(boundary, FORMS[act])
    at = 0
    for cut in [*sorted(cuts), len(body)]:
        reader.feed(body[at:cut])
        at = cut
    return reader.close()


def refused(body: bytes, act: Act = Act.UPLOAD) -> CallerError:
    with pytest.raises(CallerError) as caught:
        read(body, act)
    assert caught.value.reason is Reason.BODY_MALFORMED
    with pytest.raises(CallerError):  # whatever the cuts
        read(body, act, cuts=range(len(body)))
    return caught.value


def test_form_as_sdks_write_it_is_read() -> None:
    request = httpx2.Request(
        "POST", "http://up/", files=[("file", ("tr é.jsonl", FILE))], data={"purpose": "fine-tune"}
    )
    body, head = request.read(), request.headers["content-type"].encode()
    purpose, file = read(body, boundary=boundary_of(head))
    assert (purpose.name, purpose.text, purpose.filename) == ("purpose", "fine-tune", "")
    assert (file.name, file.text, file.filename, file.bytes) == ("file", "", "tr é.jsonl", len(FILE))
    assert file.digests == (f"sha256:{hashlib.sha256(FILE).hexdigest()}",)


def test_several_digests_are_made_where_permits_ask_for_them() -> None:
    reader = FormReader(B, FORMS[Act.UPLOAD], algorithms={"sm3", "sha256", "md5"})
    reader.feed(GOOD)
    digests = reader.close()[1].digests
    assert digests == tuple(f"{name}:{hashlib.new(name, FILE).hexdigest()}" for name in ("sha256", "sm3"))


@settings(max_examples=60, deadline=None)
@given(
    content=st.lists(
        st.sampled_from([b"\r\n", b"\r", b"\n", b"-", b"--", b"\r\n--", b"\r\n--" + B[:-1], B, b"a"]), max_size=8
    ).map(b"".join),
    cuts=st.lists(st.integers(0, 400), max_size=6),
)
def test_content_near_a_boundary_is_whole_whatever_the_cuts(content: bytes, cuts: list[int]) -> None:
    body = form(PURPOSE, part(FILE_HEAD % b"a.jsonl", content))
    if b"--" + B in content + b"\r\n":
        with pytest.raises(CallerError):
            read(body, cuts=[cut for cut in cuts if cut < len(body)])
        return
    file = read(body, cuts=[cut for cut in cuts if cut < len(body)])[1]
    assert file.bytes == len(content)
    assert file.digests[0] == f"sha256:{hashlib.sha256(content).hexdigest()}"
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(
        b"Content-Type: " + content_type(B.decode()) + b"\r\n\r\n" + body
    )
    theirs: Any = list(message.iter_parts())
    assert [one.get_param("name", header="content-disposition") for one in theirs] == ["purpose", "file"]
    if b"\n" not in content and b"\r" not in content:  # the oracle turns ends of lines of its own accord
        assert theirs[1].get_payload(decode=True) == content


ATTACKS = {
    "two purposes": form(PURPOSE, part(DISPOSITION % b"purpose", b"batch"), THE_FILE),
    "two files": form(PURPOSE, THE_FILE, part(FILE_HEAD % b"b.jsonl", b"other")),
    "no last boundary": form(PURPOSE, THE_FILE, end=b""),
    "last boundary cut": form(PURPOSE, THE_FILE, end=b"--" + B + b"-"),
    "more behind the end": GOOD + PURPOSE,
    "one byte behind the end": GOOD + b"x",
    "preamble": b"hello\r\n" + GOOD,
    "empty line before it": b"\r\n" + GOOD,
    "empty": b"",
    "no part": b"--" + B + b"--\r\n",
    "padding behind the boundary": GOOD.replace(B + b"\r\n", B + b" \r\n"),
    "boundary with bare LF": form(PURPOSE, part(FILE_HEAD % b"a.jsonl", b"x\n--" + B + b"\n" + DISPOSITION % b"model" + b"\ny")),
    "boundary in the middle of a line": form(PURPOSE, part(FILE_HEAD % b"a.jsonl", b"x--" + B + b"--")),
    "longer boundary": form(PURPOSE, part(FILE_HEAD % b"a.jsonl", b"x\r\n--" + B + b"y")),
    "boundary in a head": form(part(FILE_HEAD % (b"--" + B), FILE), PURPOSE),
    "ends of lines are LF": GOOD.replace(b"\r\n", b"\n"),
    "head without end": b"--" + B + b"\r\n" + b"Content-Type: text/plain" + b"a" * 2000,
    "huge head": form(part(DISPOSITION % b"purpose" + b"Content-Type: text/" + b"a" * 2000 + b"\r\n", b"x")),
    "many heads": form(part(DISPOSITION % b"purpose" + b"X-A: b\r\n", b"fine-tune"), THE_FILE),
    "folded head": form(part(b'Content-Disposition: form-data;\r\n name="purpose"\r\n', b"fine-tune"), THE_FILE),
    "two dispositions": form(part(DISPOSITION % b"purpose" + DISPOSITION % b"file", b"fine-tune"), THE_FILE),
    "two types": form(PURPOSE, part(FILE_HEAD % b"a" + b"Content-Type: text/plain\r\n", FILE)),
    "no name": form(part(b"Content-Disposition: form-data\r\n", b"x"), THE_FILE),
    "name without quotes": form(part(b"Content-Disposition: form-data; name=purpose\r\n", b"x"), THE_FILE),
    "two names": form(part(b'Content-Disposition: form-data; name="purpose"; name="file"\r\n', b"x"), THE_FILE),
    "extended name": form(part(b"Content-Disposition: form-data; name=\"file\"; filename*=UTF-8''a\r\n", FILE), PURPOSE),
    "two file names": form(part(b'Content-Disposition: form-data; name="file"; filename="a"; filename="b"\r\n', FILE), PURPOSE),
    "escaped quote": form(part(b'Content-Disposition: form-data; name="file"; filename="a\\"; name=\\"b"\r\n', FILE), PURPOSE),
    "path": form(PURPOSE, part(FILE_HEAD % b"../../etc/passwd", FILE)),
    "windows path": form(PURPOSE, part(FILE_HEAD % b"C:\\a.jsonl", FILE)),
    "dots": form(PURPOSE, part(FILE_HEAD % b"..", FILE)),
    "zero byte": form(PURPOSE, part(FILE_HEAD % b"a.jsonl\0.exe", FILE)),
    "turned text": form(PURPOSE, part(FILE_HEAD % "a\u202elnosj.exe".encode(), FILE)),
    "file name that is no UTF-8": form(PURPOSE, part(FILE_HEAD % b"\xff", FILE)),
    "long file name": form(PURPOSE, part(FILE_HEAD % (b"a" * 256), FILE)),
    "purpose as a file": form(part(b'Content-Disposition: form-data; name="purpose"; filename="p"\r\n', b"fine-tune"), THE_FILE),
    "file as a field": form(PURPOSE, part(DISPOSITION % b"file", FILE)),
    "field that is not known": form(PURPOSE, THE_FILE, part(DISPOSITION % b"model", b"gpt")),
    "field in another case": form(part(DISPOSITION % b"Purpose", b"batch"), PURPOSE, THE_FILE),
    "charset of the form": form(part(DISPOSITION % b"_charset_", b"utf-7"), PURPOSE, THE_FILE),
    "encoding of a part": form(PURPOSE, part(FILE_HEAD % b"a" + b"Content-Transfer-Encoding: base64\r\n", FILE)),
    "another charset": form(part(DISPOSITION % b"purpose" + b"Content-Type: text/plain; charset=utf-16\r\n", b"x"), THE_FILE),
    "text in JSON": form(part(DISPOSITION % b"purpose" + b"Content-Type: application/json\r\n", b"fine-tune"), THE_FILE),
    "nested": form(PURPOSE, part(b'Content-Disposition: form-data; name="file"; filename="a"\r\nContent-Type: multipart/mixed\r\n', b"--y\r\n\r\nx\r\n--y--")),
    "field that is no UTF-8": form(part(DISPOSITION % b"purpose", b"fine\xfftune"), THE_FILE),
    "field with a zero byte": form(part(DISPOSITION % b"purpose", b"fine-tune\0"), THE_FILE),
    "huge field": form(part(DISPOSITION % b"purpose", b"a" * (FIELD_BYTES_MAX + 1)), THE_FILE),
}  # fmt: skip


@pytest.mark.parametrize("body", [pytest.param(body, id=name) for name, body in ATTACKS.items()])
def test_l1_form_that_readers_could_read_differently_is_refused(body: bytes) -> None:
    error = refused(body)
    assert "batch" not in str(error)
    assert "passwd" not in str(error)


def test_l9_parts_are_counted() -> None:
    head = b'Content-Disposition: form-data; name="files"; filename="a"\r\n'
    assert len(read(form(*[part(head, b"x")] * PARTS_MAX), Act.VOICE_ADD)) == PARTS_MAX
    refused(form(*[part(head, b"x")] * (PARTS_MAX + 1)), Act.VOICE_ADD)


@pytest.mark.parametrize(
    ("stated", "boundary"),
    [
        (b"multipart/form-data; boundary=abc", b"abc"),
        (b"Multipart/Form-Data;boundary=abc", b"abc"),
        (b'multipart/form-data; boundary="a/b:c"', b"a/b:c"),
        (b"multipart/form-data; boundary=a/b", None),
        (b"multipart/form-data; boundary=", None),
        (b'multipart/form-data; boundary=""', None),
        (b'multipart/form-data; boundary="a b"', None),
        (b"multipart/form-data; boundary=a; boundary=b", None),
        (b"multipart/form-data; charset=utf-8; boundary=a", None),
        (b"multipart/form-data; boundary*=utf-8''a", None),
        (b"multipart/form-data; boundary=" + b"a" * 71, None),
        (b"multipart/form-data", None),
        (b"multipart/mixed; boundary=a", None),
        (b"application/json", None),
        (b"", None),
    ],
)
def test_boundary(stated: bytes, boundary: bytes | None) -> None:
    if boundary is None:
        with pytest.raises(CallerError) as caught:
            boundary_of(stated)
        assert caught.value.reason is Reason.ENCODING_UNSUPPORTED
        return
    assert boundary_of(stated) == boundary
    assert boundary_of(content_type(boundary.decode())) == boundary


# the spool


def take(spool: Spool, pieces: Sequence[bytes], *, length: int | None = None, gone: bool = False) -> Form:
    headers = [(b"content-type", content_type(B.decode()))]
    if length is not None:
        headers.append((b"content-length", b"%d" % length))
    messages: list[MutableMapping[str, Any]] = [
        {"type": "http.request", "body": piece, "more_body": gone or i < len(pieces) - 1}
        for i, piece in enumerate(pieces)
    ]

    async def receive() -> MutableMapping[str, Any]:
        if messages:
            return messages.pop(0)
        if gone:
            return {"type": "http.disconnect"}
        await asyncio.Event().wait()
        raise AssertionError

    return asyncio.run(spool.read(Act.UPLOAD, headers, receive, algorithms=("sha256",)))


def test_l5_what_is_sent_on_is_what_came_in(tmp_path: Path) -> None:
    body = form(PURPOSE, part(FILE_HEAD % b"a.jsonl", FILE * 20_000))
    pieces = [body[at : at + 65_536] for at in range(0, len(body), 65_536)]
    taken = take(Spool(tmp_path), pieces, length=len(body))
    assert len(taken.body) == len(body)
    assert b"".join(bytes(taken.body[at : at + 9999]) for at in range(0, len(body), 9999)) == body
    assert b"head" + taken.body == b"head" + body
    assert list(tmp_path.iterdir()) == []  # it never had a name


def test_a_form_goes_with_its_call(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.admit()
    taken = take(spool, [GOOD])
    view = memoryview(taken.body)
    spool.release(taken)
    assert bytes(view) == GOOD  # still being sent
    view.release()
    spool.admit()
    spool.release(taken)
    with pytest.raises(ValueError, match="released"):
        bytes(taken.body)
    assert spool.held == 0


@pytest.mark.parametrize("length", [None, len(GOOD)])
def test_l9_a_form_has_a_greatest_size(tmp_path: Path, length: int | None) -> None:
    with pytest.raises(CallerError) as caught:
        take(Spool(tmp_path, bytes_max=len(GOOD) - 1), [GOOD], length=length)
    assert caught.value.reason is Reason.BODY_TOO_LARGE
    assert take(Spool(tmp_path, bytes_max=len(GOOD)), [GOOD], length=length).texts("purpose") == "fine-tune"


def test_l9_an_upload_that_pauses_or_lasts_is_ended(tmp_path: Path) -> None:
    for spool in (Spool(tmp_path, idle_s=0.01), Spool(tmp_path, upload_s=0.01)):
        with pytest.raises(CallerError) as caught:
            _stall(spool)
        assert caught.value.reason is Reason.BODY_TIMEOUT


def _stall(spool: Spool) -> None:
    async def receive() -> MutableMapping[str, Any]:
        if not said:
            said.append(True)
            return {"type": "http.request", "body": GOOD[:50], "more_body": True}
        await asyncio.Event().wait()
        raise AssertionError

    said: list[bool] = []
    headers = [(b"content-type", content_type(B.decode()))]
    asyncio.run(spool.read(Act.UPLOAD, headers, receive, algorithms=("sha256",)))


def test_a_caller_who_leaves_is_no_error(tmp_path: Path) -> None:
    with pytest.raises(ClientDisconnect):
        take(Spool(tmp_path), [GOOD[:50]], gone=True)


def test_compressed_or_twice_typed_forms_are_refused(tmp_path: Path) -> None:
    async def never() -> MutableMapping[str, Any]:
        raise AssertionError

    typed = (b"content-type", content_type(B.decode()))
    for headers in ([typed, (b"content-encoding", b"gzip")], [typed, typed], []):
        with pytest.raises(CallerError) as caught:
            asyncio.run(Spool(tmp_path).read(Act.UPLOAD, headers, never, algorithms=()))
        assert caught.value.reason is Reason.ENCODING_UNSUPPORTED


def test_l9_uploads_at_once_are_counted(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    for _ in range(UPLOADS_MAX):
        spool.admit()
    with pytest.raises(CallerError) as caught:
        spool.admit()
    assert caught.value.reason is Reason.CONCURRENCY_LIMITED
    spool.release()
    spool.admit()
    assert spool.held == UPLOADS_MAX


@pytest.mark.slow
@settings(max_examples=1000, deadline=None)
@given(data=st.data())
def test_what_is_accepted_another_reader_reads_alike(data: st.DataObject) -> None:
    """Bytes of a good form are cut, doubled and changed; whatever still passes, aiohttp's reader understands the same."""
    body = bytearray(GOOD)
    scraps = [
        b"\r\n",
        b"\n",
        b"\r",
        b"--",
        B,
        b"--" + B,
        b"--" + B + b"--",
        b'"',
        b";",
        b" ",
        b"\x00",
        b"=",
        b":",
        b"batch",
    ]
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(body)))
        end = min(len(body), at + data.draw(st.integers(0, 40)))
        body[at:end] = data.draw(
            st.one_of(st.sampled_from(scraps), st.binary(max_size=3), st.just(bytes(body[at:end]) * 2))
        )
    try:
        parts = read(bytes(body), cuts=[len(body) // 2])
    except CallerError:
        return
    theirs = asyncio.run(_aiohttp(bytes(body)))
    assert [(name, filename or "") for name, filename, _ in theirs] == [(one.name, one.filename) for one in parts]
    for one, (_, _, content) in zip(parts, theirs, strict=True):
        if one.filename:
            assert one.digests == (f"sha256:{hashlib.sha256(content).hexdigest()}",)
        else:
            assert one.text.encode() == content


async def _aiohttp(body: bytes) -> list[tuple[str | None, str | None, bytes]]:
    stream = StreamReader(BaseProtocol(asyncio.get_running_loop()), 2**20)
    stream.feed_data(body)
    stream.feed_eof()
    reader = MultipartReader({"Content-Type": content_type(B.decode()).decode()}, stream)
    found = []
    while (one := await reader.next()) is not None:
        assert isinstance(one, BodyPartReader)
        found.append((one.name, one.filename, bytes(await one.read())))
    return found
