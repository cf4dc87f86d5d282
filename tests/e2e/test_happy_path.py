"""What people do every day: drop a file of any kind, find its answer."""

import asyncio
import json
import os

import pytest

from .site import SECRET, Site, prompt, request, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAUSE_SECONDS = 0.05
"""Shorter than `quiet`, as the writer of a growing file pauses."""


async def test_a_file_of_every_kind_is_answered(quiet_site: Site) -> None:
    """Text with and without a header, the four forms of JSON, and JSON Lines each get one answer per request."""
    site = quiet_site
    stems = [
        "plain", "from-toml", "from-yaml", "note", "given", "bare", "requests-1", "requests-2", "list-1", "l-two",
        "lines-1", "lines-2", "lines-3", "more-1", "more-3",
    ]  # fmt: skip

    site.drop("plain.md", prompt("# Plain"))
    site.drop("toml.md", "+++\ncustom_id = 'from-toml'\nmax_tokens = 500\n+++\n" + prompt("TOML"))
    site.drop("yaml.md", "---\ncustom_id: from-yaml\nsystem: Be brief.\n---\n" + prompt("YAML"))
    site.drop("note.txt", prompt("A note"))
    site.drop("whole.json", json.dumps({"custom_id": "given", "params": request("Whole")}))
    site.drop("bare.json", json.dumps(request("Bare")))
    site.drop("requests.json", json.dumps({"requests": [request("R1"), {"params": request("R2")}]}))
    site.drop("list.json", json.dumps([request("L1"), {"custom_id": "l-two", "params": request("L2")}]))
    site.drop("lines.jsonl", "\n".join(json.dumps(request(f"J{n}")) for n in range(3)))
    site.drop("more.ndjson", json.dumps(request("N1")) + "\n\n" + json.dumps({"params": request("N3")}) + "\n")
    await site.answers(*stems)
    await site.settles()

    assert {f"{stem}.md" for stem in stems} <= site.visible("outbox")
    assert site.visible("rejected") == set()
    assert {"plain.md", "toml.md", "list.json", "lines.jsonl", "more.ndjson"} <= site.visible("done")
    assert len(site.simulator.ledger.bought) == len(stems)


async def test_a_result_says_everything_about_its_request(quiet_site: Site) -> None:
    """The .result.json names the request, its cost, its batch and its wire id, and holds the API's message."""
    site = quiet_site
    bought_before = {purchase.custom_id for purchase in site.simulator.ledger.bought}

    site.drop("report.md", prompt("# Quarterly report"))
    await site.answers("report")
    await site.settles()

    result = site.document("report.result.json")
    (purchase,) = [one for one in site.simulator.ledger.bought if one.custom_id not in bought_before]
    assert result["format"] == 1
    assert (result["custom_id"], result["source"], result["lane"]) == ("report", "report.md", "_")
    assert (result["status"], result["complete"], result["reason"]) == ("answered", True, None)
    assert (result["model"], result["stop_reason"]) == ("claude-opus-5-5", "end_turn")
    assert (result["attempts"], result["parts"]) == (1, 1)
    assert result["batch_ids"] == [purchase.batch_id]
    assert result["wire_ids"] == [purchase.custom_id]
    assert len(result["request_ids"]) == 1
    assert 0 < result["cost_usd"] < 1
    assert result["dropped_at"] <= result["sent_at"]
    assert result["ended_at"] is not None
    assert result["message"]["content"][0]["text"] == site.text("report.md")
    assert "Quarterly report" in site.text("report.md")
    assert (site.root / "done" / "report.md").read_text() == prompt("# Quarterly report")


async def test_300k_tokens_are_asked_for_and_come(quiet_site: Site) -> None:
    """Without max_tokens a model's whole 300,000 are asked for, and the batch carries the header that allows them."""
    site = quiet_site

    site.drop("novel.md", prompt("A novel [[simulate tokens=300000]]"))
    await site.answers("novel")

    result = site.document("novel.result.json")
    assert result["status"] == "answered"
    assert result["usage"]["output_tokens"] == 300_000
    assert len(site.text("novel.md")) == 1_200_000
    assert result["message"]["content"][0]["text"] == site.text("novel.md")


async def test_an_answer_that_is_not_whole_is_called_incomplete(quiet_site: Site) -> None:
    """An answer cut by max_tokens, a refusal and an empty one are shown as incomplete, with the reason."""
    site = quiet_site

    site.drop("cut.md", "+++\nmax_tokens = 50\n+++\n" + prompt("[[simulate tokens=300]]"))
    site.drop("refusal.md", prompt("[[simulate stop_reason=refusal]]"))
    site.drop("nothing.md", prompt("[[simulate empty]]"))
    await site.answers("cut", "refusal", "nothing")

    reasons = {stem: site.document(f"{stem}.result.json")["reason"] for stem in ("cut", "refusal", "nothing")}
    assert reasons == {"cut": "max_tokens", "refusal": "refusal", "nothing": "empty"}
    assert {"cut.incomplete.md", "refusal.incomplete.md"} <= site.visible("outbox")
    assert {"cut.md", "refusal.md", "nothing.md", "nothing.incomplete.md"}.isdisjoint(site.visible("outbox"))


async def test_a_lane_is_a_folder_with_settings_of_its_own(quiet_site: Site) -> None:
    """Files in a sub-folder of the inbox get that lane's settings, and their answers a sub-folder of the outbox."""
    site = quiet_site
    (site.root / "inbox" / "Summaries").mkdir()
    (site.root / "inbox" / "plain lane").mkdir()

    site.drop("a b.md", prompt("One"), lane="Summaries")
    site.drop("a b.md", prompt("Two"), lane="plain lane")
    site.drop("a b.md", prompt("Three"))
    await site.answers("a-b", lane="Summaries")
    await site.answers("a-b", lane="plain lane")
    await site.answers("a-b")
    await site.settles()

    assert site.visible("outbox", "Summaries") == {"a-b.txt", "a-b.result.json"}
    assert site.visible("outbox", "plain lane") == {"a-b.md", "a-b.result.json"}
    assert site.document("a-b.result.json", "Summaries")["model"] == "claude-haiku-5-5"
    assert site.document("a-b.result.json", "Summaries")["lane"] == "Summaries"
    assert site.document("a-b.result.json", "plain lane")["model"] == "claude-opus-5-5"
    assert (site.root / "done" / "Summaries" / "a b.md").exists()


async def test_any_name_is_carried_through(quiet_site: Site) -> None:
    """Spaces, other scripts, line ends and bytes that are not UTF-8 in a name neither hurt nor get lost."""
    site = quiet_site
    names = [b"a name with spaces.md", "Größe 大.md".encode(), b"two\nlines.md", b"not \xff utf-8.md"]
    long_name = b"x" * 252 + b".md"
    before = len(site.simulator.ledger.bought)

    for number, name in enumerate([*names, long_name]):
        site.drop(name, prompt(f"Question {number}"))
    await until(lambda: len(site.simulator.ledger.bought) == before + 5, "all five are bought")
    await site.settles()

    assert {os.fsencode(name) for name in site.visible("done")} >= set(names)
    results = [site.document(name) for name in site.visible("outbox") if name.endswith(".result.json")]
    assert {result["source"] for result in results} >= {
        "a name with spaces.md", "Größe 大.md", "two\nlines.md", "not \\xff utf-8.md"
    }  # fmt: skip
    assert "a-name-with-spaces.result.json" in site.visible("outbox")


async def test_a_file_that_is_dropped_twice_is_bought_once(quiet_site: Site) -> None:
    """The same content under the same name while the first is open is attached to it; both originals end in done/."""
    site = quiet_site
    before = len(site.simulator.ledger.purchases)
    content = json.dumps({"custom_id": "double", "params": request("Twice")})

    site.drop("double-a.json", content)
    site.drop("double-b.json", content)
    await site.answers("double")
    await site.settles()

    assert len(site.simulator.ledger.purchases) == before + 1
    assert {"double-a.json", "double-b.json"} <= site.visible("done")
    assert "double__2.result.json" not in site.visible("outbox")


async def test_an_open_id_with_other_content_rejects_the_file(quiet_site: Site) -> None:
    """An explicit custom_id that is open with other content is a mistake; a derived one gets a suffix instead."""
    site = quiet_site
    (site.root / "inbox" / "ids").mkdir()

    site.drop("explicit-a.json", json.dumps({"custom_id": "same", "params": request("First")}), lane="ids")
    site.drop("explicit-b.json", json.dumps({"custom_id": "same", "params": request("Second")}), lane="ids")
    site.drop("derived.md", prompt("Third"), lane="ids")
    site.drop("derived.txt", prompt("Fourth"), lane="ids")
    await site.answers("same", "derived", "derived-2", lane="ids")
    await site.settles()

    rejected = site.visible("rejected", "ids")
    assert len(rejected) == 2
    (name,) = [name for name in rejected if not name.endswith(".error.txt")]
    assert "duplicate_id" in (site.root / "rejected" / "ids" / f"{name}.error.txt").read_text()


async def test_an_id_that_has_ended_may_come_again(quiet_site: Site) -> None:
    """The second answer of a custom_id stands beside the first, under `__2`, and takes nothing from it."""
    site = quiet_site
    site.drop("again.md", prompt("The first time"))
    await site.answers("again")
    await site.settles()
    first = site.text("again.result.json")

    site.drop("again.md", prompt("The second time"))
    await site.answers("again__2")
    await site.settles()

    assert site.text("again.result.json") == first
    assert site.document("again__2.result.json")["custom_id"] == "again"
    assert {"again.md", "again__2.md"} <= site.visible("done")
    assert "second" in (site.root / "done" / "again__2.md").read_text()


async def test_a_file_that_grows_is_taken_when_it_is_still(quiet_site: Site) -> None:
    """A file that is written slowly under its own name is sent once, whole."""
    site = quiet_site
    before = len(site.simulator.ledger.purchases)

    with (site.root / "inbox" / "slow.md").open("w") as file:
        for number in range(15):
            file.write(f"Line {number} {SECRET}\n")
            file.flush()
            await asyncio.sleep(PAUSE_SECONDS)
    await site.answers("slow")
    await site.settles()

    assert len(site.simulator.ledger.purchases) == before + 1
    assert (site.root / "done" / "slow.md").read_text().count("Line") == 15
    assert f"{15 * 3:,} words" in site.text("slow.md")
