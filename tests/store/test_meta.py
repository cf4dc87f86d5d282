from pathlib import Path

from batchbox.store import Store, open_store
from batchbox.store.meta import Fact


async def test_a_fact_that_was_never_recorded_is_not_there(store: Store) -> None:
    assert await store.meta.get(Fact.ROOT_IDENTITY) is None


async def test_a_fact_is_recorded_once_and_stays(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        assert await store.meta.get_or_record(Fact.KEY_SALT, lambda: "first") == "first"
        assert await store.meta.get_or_record(Fact.KEY_SALT, lambda: "second") == "first"

    async with open_store(tmp_path) as store:
        assert await store.meta.get(Fact.KEY_SALT) == "first"
        assert await store.meta.get(Fact.ROOT_IDENTITY) is None
