"""From an ended batch to the outbox: every kind of line, streams that are cut, names that are taken, originals."""

import json

import pytest

from .bench import Bench
from .fake_api import answer, errored
from .lines import always, succeeded


async def test_an_answer_says_everything_about_itself(bench: Bench) -> None:
    """The text is in the .md; the facts, the cost and the message are in the .result.json."""
    bench.drop("a.md", "one")
    bench.api.answerer = always(succeeded("end_turn", text="the answer", output_tokens=1000))

    await bench.settle()

    assert bench.outbox()["a.md"] == b"the answer"
    document = bench.document("a.result.json")
    assert document["status"] == "answered"
    assert document["complete"] is True
    assert document["cost_usd"] == pytest.approx(2.01)
    assert document["source"] == "a.md"
    assert document["batch_ids"] == ["msgbatch_0001"]
    assert document["request_ids"] == ["req_1"]
    assert document["attempts"] == document["parts"] == 1
    assert isinstance(document["message"], dict)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"content": [{"type": "text", "text": "half a pair: \ud83d"}]}, "answered"),
        ({"content": [{"type": "text", "text": None}, {"type": "text", "text": "rest"}]}, "answered"),
        ({"content": [{"type": "new_block", "text": {"odd": True}}, {"type": "text", "text": "x"}]}, "answered"),
        ({"usage": None}, "answered"),
        ({"usage": {"output_tokens": 10**20, "input_tokens": 5}}, "answered"),
        ({"model": None}, "answered"),
        ({"content": None}, "incomplete"),
        ({"stop_reason": 7}, "incomplete"),
    ],
)
async def test_an_answer_that_is_not_as_it_should_be_is_delivered_all_the_same(
    bench: Bench, change: dict[str, object], status: str
) -> None:
    """It was paid for; what can be understood of it is there, and the message as it came."""
    bench.drop("a.md", "one")
    result = succeeded("end_turn")
    message = result["message"]
    assert isinstance(message, dict)
    message.update(change)
    bench.api.answerer = always(result)

    await bench.settle()

    document = bench.document("a.result.json")
    assert document["status"] == status
    assert isinstance(document["message"], dict)


@pytest.mark.parametrize(
    "first", [errored("overloaded_error", "busy"), {"type": "expired"}], ids=["overloaded", "expired"]
)
async def test_a_transient_error_is_tried_again(bench: Bench, first: dict[str, object]) -> None:
    """The answer of a later try says how many there were, and in which batches."""
    bench.drop("a.md", "one")
    bench.api.answerer = lambda id_, params, times: first if times == 1 else answer(id_, params, times)

    await bench.settle()

    document = bench.document("a.result.json")
    assert document["attempts"] == 2
    assert document["batch_ids"] == ["msgbatch_0001", "msgbatch_0002"]


async def test_a_stream_that_is_cut_at_a_lines_end_is_read_again(bench: Bench) -> None:
    """Lines are counted, and what is delivered is skipped."""
    bench.drop(
        "five.jsonl", "\n".join(json.dumps({"messages": [{"role": "user", "content": str(n)}]}) for n in range(5))
    )
    bench.api.cut_results_after.extend([2, 4])

    await bench.settle()

    assert sum(name.endswith(".result.json") for name in bench.outbox()) == 5
    assert bench.rows("SELECT count(*) FROM charges") == [(5,)]


async def test_a_line_that_is_missing_three_times_is_an_error_and_not_bought_again(bench: Bench) -> None:
    """result_missing, for the one request whose line never came."""
    bench.drop(
        "two.jsonl", "\n".join(json.dumps({"messages": [{"role": "user", "content": str(n)}]}) for n in range(2))
    )
    bench.api.cut_results_after.extend([1, 1, 1])

    await bench.settle()

    assert set(bench.outbox()) == {"two-2.md", "two-2.result.json", "two-1.error.json"}
    assert bench.document("two-1.error.json")["error"]["type"] == "result_missing"  # type: ignore[index] # as above
    assert bench.api.create_count == 1


async def test_repeated_and_foreign_lines_do_no_harm(bench: Bench) -> None:
    """One answer per request, once charged."""
    bench.drop("a.md", "one")
    while not bench.api.batches:
        await bench.step_all()
        bench.advance(0.5)
    bench.api.end_all()
    lines = bench.api.batches[0].lines
    foreign = json.dumps({"custom_id": "x__aaaaaaaa-1", "result": {"type": "expired"}}).encode() + b"\n"
    lines[:] = [b"not json\n", foreign, lines[0], lines[0]]

    await bench.settle()

    assert set(bench.outbox()) == {"a.md", "a.result.json"}
    assert bench.rows("SELECT count(*) FROM charges") == [(1,)]


async def test_ids_that_differ_in_case_alone_do_not_share_a_name(bench: Bench) -> None:
    """The outbox may be on a file system that does not tell them apart."""
    both = [{"custom_id": id_, "params": {"messages": [{"role": "user", "content": id_}]}} for id_ in ("A", "a")]
    bench.drop("both.json", json.dumps(both))

    await bench.settle()

    assert {name.casefold() for name in bench.outbox() if name.endswith(".md")} == {"a.md", "a__2.md"}


async def test_replace_puts_the_new_answer_in_the_place_of_the_old_one(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """All old files of the stem go, and nobody else's."""
    bench = Bench(tmp_path_factory.mktemp("replace"), on_existing="replace")
    (bench.root / "outbox" / "b.md").write_text("somebody's own")
    bench.api.answerer = always(succeeded("max_tokens"))
    bench.drop("a.md", "one")
    await bench.settle()
    bench.api.answerer = answer
    bench.drop("a.md", "two")
    bench.drop("b.md", "three")

    await bench.settle()

    assert set(bench.outbox()) == {"a.md", "a.result.json", "b.md", "b__2.md", "b__2.result.json"}
    assert bench.outbox()["b.md"] == b"somebody's own"
    await bench.stop()


async def test_every_step_may_be_taken_by_a_process_of_its_own(bench: Bench) -> None:
    """Nothing that matters is in memory alone."""
    bench.drop("a.md", "one")
    bench.drop("b.jsonl", "\n".join(json.dumps({"messages": [{"role": "user", "content": str(n)}]}) for n in range(3)))

    await bench.settle(restart_each_step=True)

    assert sum(name.endswith(".result.json") for name in bench.outbox()) == 4
    assert bench.api.create_count == len({digest for batch in bench.api.batches for digest in [batch.id]})
