"""What a file has asked for already, when it is read again because it has changed: none of it is asked for anew."""

import json
import os

from .bench import Bench
from .taking import dispatch_for, drop_requests, marks, request, send, take_in
from .test_verifying import asked, closed, unsettled, writer


def lines(*texts: str) -> str:
    """Return JSON Lines of a request for each text."""
    return "\n".join(json.dumps(request(text)) for text in texts)


def named(custom_id: str) -> str:
    """Return a line with an id of its own."""
    return json.dumps({"custom_id": custom_id, "params": request(custom_id)})


def done(bench: Bench) -> set[str]:
    """Return the names of the originals."""
    return set(os.listdir(bench.root / "done"))


async def test_one_of_whose_requests_was_cancelled_is_still_bought_whole(bench: Bench) -> None:
    """And the cancelled one stays so."""
    with writer(bench, "many.jsonl", lines("q1", "q2")) as file:
        await take_in(bench)
        bench.drop_sign("many-1.cancel")
        await bench.step("intake")
        await bench.step("dispatch")

        file.write("\n" + lines("q3"))
        await bench.settle()

    assert asked(bench) == ["q2", "q3"]
    assert marks(bench) == {"many-1.error.json", "many-2.result.json", "many-3.result.json"}
    assert done(bench) == {"many.jsonl"}


async def test_a_file_that_shares_a_cancelled_request_is_looked_at_all_the_same(bench: Bench) -> None:
    bench.drop("one.jsonl", named("same"))
    await take_in(bench)
    with writer(bench, "two.jsonl", "\n".join([named("same"), named("mine")])) as file:
        await take_in(bench)
        bench.drop_sign("one.jsonl.cancel")
        await bench.step("intake")
        await bench.step("dispatch")

        file.write("\n" + named("mine-2"))
        await bench.settle()

    assert asked(bench) == ["mine", "mine-2"]
    assert marks(bench) == {"same.error.json", "mine.result.json", "mine-2.result.json"}


async def test_what_was_cancelled_by_its_id_stays_so_whatever_the_file_says_there_now(bench: Bench) -> None:
    with writer(bench, "one.md", "first half") as file:
        await take_in(bench)
        bench.drop_sign("one.cancel")
        await bench.step("intake")
        await bench.step("dispatch")

        file.write(", second half")
        await bench.settle()

    assert asked(bench) == []
    assert marks(bench) == {"one.error.json"}
    assert done(bench) == {"one.md"}


async def test_a_file_that_is_cancelled_as_a_whole_is_not_read_again(bench: Bench) -> None:
    """What its writer adds later is not wanted either."""
    with writer(bench, "many.jsonl", lines("q1")) as file:
        await take_in(bench)
        bench.drop_sign("many.jsonl.cancel")
        await bench.step("intake")
        await bench.step("dispatch")

        file.write("\n" + lines("q2"))
        await bench.settle()

    assert asked(bench) == []
    assert unsettled(bench) == []
    assert marks(bench) == {"many-1.error.json"}


async def test_a_double_drop_of_what_is_on_its_way_is_looked_at_before_it_leaves(bench: Bench) -> None:
    """Nothing of it was to be sent, so that no sending made anybody look."""
    drop_requests(bench, "q1", "q2")
    await take_in(bench)
    await send(bench)
    with writer(bench, "many.jsonl", lines("q1", "q2")) as file:
        await take_in(bench)

        file.write("\n" + lines("q3"))
        await bench.settle()

    assert asked(bench) == ["q1", "q2", "q3"]
    assert done(bench) == {"many.jsonl", "many__2.jsonl"}


async def test_what_was_answered_for_another_file_meanwhile_is_not_bought_again(bench: Bench) -> None:
    bench.drop("one.jsonl", named("id-0"))
    await take_in(bench)
    await send(bench)
    with writer(bench, "two.jsonl", "\n".join([named("id-0"), named("id-1")])) as file:
        await take_in(bench)
        bench.api.end_all()
        bench.advance(3.0)
        await bench.step("polling")
        await bench.step("delivery")
        assert marks(bench) == {"id-0.result.json"}

        file.write("\n" + named("id-2"))
        await bench.settle()

    assert asked(bench) == ["id-0", "id-1", "id-2"]
    assert marks(bench) == {"id-0.result.json", "id-1.result.json", "id-2.result.json"}
    assert bench.rows("SELECT count(*) FROM recalled") == [(0,)]


async def test_it_is_bought_again_if_the_file_asks_for_something_else_under_that_id(bench: Bench) -> None:
    bench.drop("one.md", "first")
    await take_in(bench)
    await send(bench)
    second = bench.drop("one.md", "first")
    with second.open("r+b") as file:
        await take_in(bench)
        bench.api.end_all()
        bench.advance(3.0)
        await bench.step("polling")
        await bench.step("delivery")

        file.write(b"FIRST")
        file.flush()
        bench.dropped["one.md"] = b"FIRST"
        await bench.settle()

    assert asked(bench) == ["first", "FIRST"]


async def test_a_file_that_has_changed_and_asks_for_nothing_new_is_done_with(bench: Bench) -> None:
    """All that it asks for has ended when it is read again."""
    bench.drop("one.jsonl", named("id-0"))
    await take_in(bench)
    await send(bench)
    with writer(bench, "two.jsonl", named("id-0")) as file:
        await take_in(bench)
        bench.api.end_all()
        bench.advance(3.0)
        await bench.step("polling")
        await bench.step("delivery")

        file.write("\n\n")
        await bench.settle()

    assert asked(bench) == ["id-0"]
    assert done(bench) == {"one.jsonl", "two.jsonl"}


async def test_one_that_cannot_be_looked_at_just_now_keeps_nobody_busy(bench: Bench) -> None:
    """Delivery calls dispatch for such files, and dispatch delivery when it has looked at them."""
    bench.drop("one.md", "question", lane="fax")
    await take_in(bench)
    await send(bench)
    bench.drop("one.md", "question", lane="fax")
    await take_in(bench)
    bench.api.end_all()
    bench.advance(3.0)
    await bench.step("polling")
    await bench.step("delivery")
    assert bench.rows("SELECT count(*) FROM sources WHERE state = 'settled' AND is_verified = 0") == [(1,)]

    with closed(bench, "fax"):
        bench.bells.delivery.silence()
        await bench.step("dispatch")
        while_closed = bench.bells.delivery._rung.is_set()
    await bench.step("dispatch")

    assert (while_closed, bench.bells.delivery._rung.is_set()) == (False, True)
    await bench.settle()


async def test_two_requests_of_one_content_and_one_id_are_both_remembered(bench: Bench) -> None:
    """One has the id by its own will; the other was called after its line, and got a number."""
    both = f"{json.dumps({'custom_id': 'f-2', 'params': request('Q')})}\n{json.dumps(request('Q'))}"
    bench.drop("f.jsonl", both)
    await take_in(bench)
    await send(bench)
    with writer(bench, "f.jsonl", f"{both}\n{named('b')}") as file:
        await take_in(bench)

        file.write("\n" + named("c"))
        await bench.settle()

    assert sorted(asked(bench)) == ["Q", "Q", "b", "c"]


async def test_both_are_known_again_when_their_answers_are_there(bench: Bench) -> None:
    both = f"{json.dumps({'custom_id': 'f-2', 'params': request('Q')})}\n{json.dumps(request('Q'))}"
    bench.drop("f.jsonl", both)
    await take_in(bench)
    await send(bench)
    with writer(bench, "f.jsonl", both) as file:
        await take_in(bench)
        bench.api.end_all()
        bench.advance(3.0)
        await bench.step("polling")
        await bench.step("delivery")

        file.write("\n\n")
        await bench.settle()

    assert asked(bench) == ["Q", "Q"]
    assert done(bench) == {"f.jsonl", "f__2.jsonl"}


async def test_what_was_remembered_of_a_request_that_is_gone_hides_no_newer_one(bench: Bench) -> None:
    """Both files change; a third one asks for the same, and has it sent, before the first is read again and changes."""
    with writer(bench, "one.jsonl", named("a") + "\n" + named("b")) as one:
        await take_in(bench)
        with writer(bench, "two.jsonl", named("a")) as two:
            await take_in(bench)
            bench.drop("other.md", "other")  # else the next request would have the same number
            await take_in(bench)
            one.write("\n" + named("c"))
            two.write("\n" + named("d"))
            await dispatch_for(bench, 1)
            bench.drop("three.jsonl", named("a"))
            for _ in range(6):
                await bench.step("intake")
                one.write("\n")
                two.write("\n")
                await dispatch_for(bench, 1)
            for _ in range(14):
                await bench.step("intake")
                bench.advance(0.5)
            assert unsettled(bench) == [(1, 1), (1, 1)]
            one.write("\n" + named("e"))
            await bench.settle()

    assert sorted(asked(bench)) == ["a", "b", "c", "d", "e", "other"]


async def test_a_file_of_which_a_part_was_taken_back_is_done_when_it_goes(bench: Bench) -> None:
    bench.drop("two.jsonl", named("a") + "\n" + named("b"))
    await take_in(bench)
    bench.drop_sign("a.cancel")
    for stage in ("intake", "dispatch", "delivery"):
        await bench.step(stage)
    lose(bench, "two.jsonl")

    await bench.settle()

    assert {name: bench.document(name)["error"]["type"] for name in marks(bench)} == {  # type: ignore[index] # a table
        "a.error.json": "canceled",
        "b.error.json": "withdrawn",
    }


async def test_what_was_deleted_and_is_dropped_again_is_bought(bench: Bench) -> None:
    """Before anybody could read the error of the first one."""
    bench.drop("a.md", "question")
    await take_in(bench)
    lose(bench, "a.md")
    await dispatch_for(bench, 10)
    assert bench.rows("SELECT state FROM requests") == [("failing",)]

    bench.drop("a.md", "question")
    await take_in(bench)
    await bench.settle()

    assert asked(bench) == ["question"]
    assert marks(bench) == {"a.error.json", "a-2.result.json"}


def lose(bench: Bench, name: str) -> None:
    """Delete a file that is on its way."""
    for path in (bench.root / "processing").rglob(f"*~{name}"):
        path.unlink()
    del bench.dropped[name]
