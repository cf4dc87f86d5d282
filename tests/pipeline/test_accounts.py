"""Another key, another organisation, another address: nothing is believed that is not about our own work."""

import pytest

from .bench import Bench
from .fake_api import Reply
from .taking import batch_states, dispatch_for, holds, marks, take_in


async def lost(bench: Bench) -> None:
    """Buy one request, and lose the reply."""
    bench.drop("a.md", "one")
    await take_in(bench)
    bench.api.replies.append(Reply.LOSE)
    while "submitting" not in batch_states(bench):
        await bench.step("dispatch")
        bench.advance(0.5)


async def answered(bench: Bench, name: str) -> None:
    """Have one file answered."""
    bench.drop(f"{name}.md", name)
    await bench.settle()


async def test_a_look_under_the_key_of_another_workspace_proves_nothing(bench: Bench) -> None:
    """Its list is empty, and the batch must not be bought again for that; under the first key it is found."""
    await answered(bench, "earlier")
    await lost(bench)
    await bench.stop()
    bench.key_hash = b"another"
    bench.api.enter_other_workspace()
    await bench.start()

    await dispatch_for(bench, 900, every=10.0)
    in_doubt = (bench.api.create_count, batch_states(bench), "another workspace" in holds(bench)["account"])
    await bench.stop()
    bench.key_hash = b"key"
    bench.api.return_to_workspace()
    await bench.settle()

    assert in_doubt == (2, ["closed", "submitting"], True)
    assert bench.api.create_count == 2
    assert marks(bench) == {"earlier.result.json", "a.result.json"}


async def test_another_key_of_the_same_workspace_is_believed_once_a_batch_of_ours_answers(bench: Bench) -> None:
    """A key is changed every few months: nothing waits for that."""
    await answered(bench, "earlier")
    await lost(bench)
    await bench.stop()
    bench.key_hash = b"rotated"
    await bench.start()

    await bench.settle()

    assert bench.api.create_count == 2
    assert marks(bench) == {"earlier.result.json", "a.result.json"}
    assert "account" not in holds(bench)


async def test_without_any_batch_that_could_prove_it_another_key_is_not_believed(bench: Bench) -> None:
    """The only batch is the one in doubt."""
    await lost(bench)
    await bench.stop()
    bench.key_hash = b"another"
    await bench.start()

    await dispatch_for(bench, 900, every=10.0)

    assert (bench.api.create_count, batch_states(bench)) == (1, ["submitting"])
    assert "Put the earlier key back" in holds(bench)["account"]


async def test_a_batch_that_another_key_does_not_see_is_not_lost(bench: Bench) -> None:
    """Its 404 is about another workspace; polls go on, and find it when the key is back."""
    await answered(bench, "earlier")
    bench.drop("a.md", "one")
    await take_in(bench)
    while len(bench.api.batches) < 2:
        await bench.step("dispatch")
        bench.advance(0.5)
    await bench.stop()
    bench.key_hash = b"another"
    bench.api.enter_other_workspace()
    await bench.start()

    for _ in range(30):
        await bench.step("polling")
        bench.advance(10.0)
    states = batch_states(bench)
    await bench.stop()
    bench.key_hash = b"key"
    bench.api.return_to_workspace()
    await bench.settle()

    assert states == ["closed", "in_progress"]
    assert marks(bench) == {"earlier.result.json", "a.result.json"}


@pytest.mark.parametrize("what", ["base_url", "organisation"])
async def test_everything_waits_at_another_address_or_organisation_while_work_is_open(bench: Bench, what: str) -> None:
    """No look, no poll, no POST: whatever is said there is not about our work."""
    await answered(bench, "earlier")
    await lost(bench)
    await bench.stop()
    bench.move_to_other(what)
    await bench.start()
    bench.drop("b.md", "two")

    for _ in range(100):
        for stage in ("intake", "dispatch", "polling", "delivery"):
            await bench.step(stage)
        bench.advance(10.0)
    meanwhile = (bench.api.create_count, batch_states(bench)[1])
    why = holds(bench).get("sending", "")
    await bench.stop()
    bench.return_home()
    await bench.settle()

    assert meanwhile == (2, "submitting")
    assert "work is open" in why
    assert bench.api.create_count == 3
    assert marks(bench) == {"earlier.result.json", "a.result.json", "b.result.json"}


@pytest.mark.parametrize("what", ["base_url", "organisation"])
async def test_with_nothing_open_another_address_or_organisation_is_simply_recorded(bench: Bench, what: str) -> None:
    """A move between two jobs is nobody's trouble."""
    await answered(bench, "earlier")
    await bench.stop()
    bench.move_to_other(what)

    await answered(bench, "later")

    assert marks(bench) == {"earlier.result.json", "later.result.json"}
