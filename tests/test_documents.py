import json
import os
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchbox.documents import (
    HEAD_BYTES,
    Answer,
    Explanation,
    Facts,
    Failure,
    custom_id_in,
    error_json,
    explanation,
    manifest_head,
    manifest_line,
    result_json,
    status_in,
    wire_ids_in,
    with_request_id,
)
from batchbox.model import ApiBatchId, CustomId, Instance, Lane, Nonce, RejectReason, WireId

MOMENT = datetime(2026, 8, 1, 12, 30, 5, tzinfo=UTC)
MESSAGE = b'{"id":"msg_1",  "content":[{"type":"text","text":"gr\\u00fcn \xe2\x9c\x93"}], "usage":{"output_tokens":2}}'

FACTS = Facts(
    custom_id=CustomId("report-1"),
    lane=Lane("reports"),
    source="report 1.md",
    owner="alice",
    model="claude-opus-5-5",
    attempts=2,
    batch_ids=[ApiBatchId("msgbatch_1"), ApiBatchId("msgbatch_2")],
    wire_ids=[WireId("report-1__aaaaaaaa-1"), WireId("report-1__bbbbbbbb-1")],
    request_ids=["req_1"],
    dropped_at=MOMENT,
    sent_at=MOMENT,
    ended_at=None,
)
ANSWER = Answer(
    reason=None, stop_reason="end_turn", usage={"output_tokens": 2}, cost_usd=Decimal("0.000200"), message=MESSAGE
)
FAILURE = Failure(type="refused", text="no \u202e\x1b", what_to_do="Correct it.", billed=False)
EXPLANATION = Explanation(
    name="a.json",
    reason=RejectReason.BAD_JSON,
    detail="line 3: no",
    what_to_do="Correct it.",
    received_at=MOMENT,
    rejected_at=MOMENT,
    receipt="0123456789abcdef",
)

NAMES = st.binary(min_size=1, max_size=255).map(os.fsdecode)


def test_a_result_says_everything_about_its_request_and_holds_the_message_unchanged() -> None:
    document = b"".join(result_json(FACTS, ANSWER))

    assert MESSAGE in document
    assert json.loads(document) == {
        "format": 1,
        "custom_id": "report-1",
        "lane": "reports",
        "source": "report 1.md",
        "owner": "alice",
        "status": "answered",
        "complete": True,
        "reason": None,
        "model": "claude-opus-5-5",
        "stop_reason": "end_turn",
        "usage": {"output_tokens": 2},
        "cost_usd": 0.0002,
        "attempts": 2,
        "parts": 1,
        "batch_ids": ["msgbatch_1", "msgbatch_2"],
        "wire_ids": ["report-1__aaaaaaaa-1", "report-1__bbbbbbbb-1"],
        "request_ids": ["req_1"],
        "dropped_at": "2026-08-01T12:30:05Z",
        "sent_at": "2026-08-01T12:30:05Z",
        "ended_at": None,
        "message": json.loads(MESSAGE),
    }


@pytest.mark.parametrize("recovered", [True, False])
def test_what_was_recovered_says_so_and_nothing_else_mentions_it(recovered: bool) -> None:
    facts = replace(FACTS, recovered=recovered)

    for document in (result_json(facts, ANSWER), error_json(facts, FAILURE)):
        assert json.loads(b"".join(document)).get("recovered") is (True if recovered else None)


def test_an_incomplete_answer_says_so_and_why() -> None:
    document = json.loads(b"".join(result_json(FACTS, replace(ANSWER, reason="max_tokens"))))

    assert (document["status"], document["complete"], document["reason"]) == ("incomplete", False, "max_tokens")


def test_an_answer_without_a_message_has_null_in_its_place() -> None:
    document = json.loads(b"".join(result_json(FACTS, replace(ANSWER, message=b"", cost_usd=None))))

    assert document["message"] is None
    assert document["cost_usd"] is None


@pytest.mark.parametrize(
    ("cost", "written"), [("0", b"0"), ("1200", b"1200"), ("0.10", b"0.1"), ("1E-9", b"0.000000001"), ("3E+2", b"300")]
)
def test_a_cost_is_written_exactly_and_without_an_exponent(cost: str, written: bytes) -> None:
    document = b"".join(result_json(FACTS, replace(ANSWER, cost_usd=Decimal(cost))))

    assert b'"cost_usd": %s,\n' % written in document


def test_an_error_says_what_happened_and_what_to_do() -> None:
    document = json.loads(b"".join(error_json(FACTS, FAILURE)))

    assert document["status"] == "error"
    assert document["complete"] is False
    assert document["error"] == {"type": "refused", "text": "no \u202e\x1b"}
    assert document["what_to_do"] == "Correct it."
    assert document["billed"] is False
    assert document["cost_usd"] == 0
    assert document["custom_id"] == "report-1"
    assert "message" not in document


@given(name=NAMES, owner=st.text(max_size=40, alphabet=st.characters(codec="utf-8")))
def test_whatever_a_file_is_called_its_documents_are_json_and_the_same_each_time(name: str, owner: str) -> None:
    """A second delivery, after a crash, must write the same bytes."""
    facts = replace(FACTS, source=name, owner=owner)

    result, error = b"".join(result_json(facts, ANSWER)), b"".join(error_json(facts, FAILURE))

    assert result == b"".join(result_json(facts, ANSWER))
    assert error == b"".join(error_json(facts, FAILURE))
    assert [json.loads(document)["owner"] for document in (result, error)] == [owner, owner]


def test_a_name_that_is_not_utf8_is_spelled_out() -> None:
    facts = replace(FACTS, source=os.fsdecode(b"caf\xe9.md"))

    assert json.loads(b"".join(result_json(facts, ANSWER)))["source"] == "caf\\xe9.md"


@given(
    custom_id=st.from_regex(r"[a-zA-Z0-9_-]{1,64}", fullmatch=True).map(CustomId),
    name=NAMES,
    message=st.text(alphabet=st.characters(codec="utf-8")).map(lambda text: json.dumps({"x": text}).encode()),
)
def test_the_custom_id_is_found_in_the_first_bytes_of_every_document(
    custom_id: CustomId, name: str, message: bytes
) -> None:
    facts = replace(FACTS, custom_id=custom_id, source=name)
    result = b"".join(result_json(facts, replace(ANSWER, message=message)))
    error = b"".join(error_json(facts, FAILURE))

    assert custom_id_in(result[:HEAD_BYTES]) == custom_id
    assert custom_id_in(error[:HEAD_BYTES]) == custom_id


def test_an_error_of_which_nobody_knows_whether_it_was_billed_says_just_that() -> None:
    document = json.loads(b"".join(error_json(FACTS, replace(FAILURE, billed=None))))

    assert (document["billed"], document["cost_usd"]) == (None, None)


@given(name=NAMES)
def test_the_wire_ids_are_found_in_the_first_bytes_of_every_document(name: str) -> None:
    facts = replace(FACTS, source=name)

    for document in (result_json(facts, ANSWER), error_json(facts, FAILURE)):
        assert wire_ids_in(b"".join(document)[:HEAD_BYTES]) == list(FACTS.wire_ids)


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b'{"wire_ids": ["a__aaaaaaaa-1"]}',
        b'{\n  "deep": {\n    "wire_ids": ["a__aaaaaaaa-1"]}}',
        b'{\n  "wire_ids": [1, 2]}',
        b'{\n  "wire_ids": ["\xff"]}',
        b'{\n  "wire_ids": ["a__aaaaaaaa-1"',
        b'{\n  "wire_ids": [' + b"[" * 20_000 + b"]",
    ],
)
def test_what_is_no_document_of_ours_has_no_wire_ids(head: bytes) -> None:
    assert wire_ids_in(head) == []


@given(name=NAMES)
def test_the_status_is_found_in_the_first_bytes_of_every_document(name: str) -> None:
    """And not in what a file's name says."""
    for source in (name, '\n  "status": "answered"'):
        facts = replace(FACTS, source=source)
        documents = (
            result_json(facts, replace(ANSWER, reason=None)),
            result_json(facts, replace(ANSWER, reason="max_tokens")),
            error_json(facts, FAILURE),
        )

        found = [status_in(b"".join(document)[:HEAD_BYTES]) for document in documents]

        assert found == ["answered", "incomplete", "error"]


def test_a_file_without_a_status_has_none() -> None:
    assert status_in(b'{"custom_id": "a", "status": "answered"}') is None


def test_a_file_that_names_a_custom_id_later_on_cannot_pass_for_another() -> None:
    facts = replace(FACTS, source='", "custom_id": "stolen"')
    message = b'{"custom_id": "stolen"}'

    head = b"".join(result_json(facts, replace(ANSWER, message=message)))[:HEAD_BYTES]

    assert custom_id_in(head) == "report-1"


@pytest.mark.parametrize("head", [b"", b"{}", b'{"custom_id": 5}', b'{"custom_id": "a b"}', b"\xff\x00", b"<html>"])
def test_a_file_that_is_not_ours_has_no_custom_id(head: bytes) -> None:
    assert custom_id_in(head) is None


def test_an_explanation_is_a_page_that_every_editor_shows() -> None:
    assert explanation(EXPLANATION).decode() == (
        "Not processed: a.json\r\n"
        "Reason:        bad_json\r\n"
        "Detail:        line 3: no\r\n"
        "What to do:    Correct it.\r\n"
        "Received:      2026-08-01 12:30:05 UTC\r\n"
        "Rejected:      2026-08-01 12:30:05 UTC\r\n"
        "Receipt:       0123456789abcdef\r\n"
    )


def test_a_detail_of_several_lines_stays_in_its_column() -> None:
    said = explanation(replace(EXPLANATION, detail="line 1: no\nline 2: no"))

    assert b"Detail:        line 1: no\r\n               line 2: no\r\nWhat to do:" in said


@given(name=NAMES, detail=st.text())
def test_nothing_that_is_quoted_can_look_like_a_line_of_ours_or_steer_a_terminal(name: str, detail: str) -> None:
    said = explanation(replace(EXPLANATION, name=name, detail=detail)).decode()

    lines = said.removesuffix("\r\n").split("\r\n")
    assert all(line.isprintable() for line in lines)
    assert [line[:15].strip() for line in lines if line[0] != " "] == [
        *("Not processed:", "Reason:", "Detail:", "What to do:", "Received:", "Rejected:", "Receipt:"),
    ]


def test_a_manifest_is_one_json_object_a_line() -> None:
    head = manifest_head(
        nonce=Nonce("abcdefgh"),
        instance=Instance("host-00000001"),
        request_count=2,
        mark=MOMENT,
        base_url="https://api.example",
        replaces=None,
        intended_at=MOMENT,
    )
    line = manifest_line(
        number=1,
        custom_id=CustomId("a"),
        lane=Lane("_"),
        source=os.fsdecode(b"new\nline\xff.md"),
        claim=os.fsdecode(b"c~new\nline\xff.md"),
        sha256=None,
    )

    assert (head + line).count(b"\n") == 2
    assert json.loads(head) == {
        "format": 1,
        "nonce": "abcdefgh",
        "instance": "host-00000001",
        "count": 2,
        "mark": "2026-08-01T12:30:05Z",
        "base_url": "https://api.example",
        "replaces": None,
        "intended_at": "2026-08-01T12:30:05Z",
    }
    assert json.loads(line)["source"] == "new\nline\\xff.md"


@pytest.mark.parametrize(("request_id", "ids"), [(None, ["req_1"]), ("req_2", ["req_1", "req_2"])])
def test_the_apis_name_for_an_error_joins_those_of_the_calls(request_id: str | None, ids: list[str]) -> None:
    assert with_request_id(FACTS, request_id).request_ids == ids
