"""A marker is claimed with its file, or stays with it."""

from dataclasses import replace

from .site import Site, names_in


async def test_a_marker_goes_with_its_file(site: Site) -> None:
    """Nothing of it is left, not even in processing/."""
    site.drop("a.md")
    site.drop("a.md.ready", b"")
    file = replace(await site.wanted("a.md"), marker="a.md.ready")

    outcomes = await site.claim(file)

    assert outcomes == ["claimed"]
    assert names_in(site.folder("inbox")) == set()
    assert names_in(site.claims_folder()) == {file.claim_name}


async def test_a_marker_is_put_back_when_its_file_cannot_be_claimed(site: Site) -> None:
    """A file without its marker would wait for ever."""
    site.drop("a.md")
    site.drop("a.md.ready", b"")
    wanted = await site.wanted("a.md")
    file = replace(wanted, marker="a.md.ready", claim_name=wanted.claim_name.replace("~", "~none/"))

    outcomes = await site.claim(file)

    assert outcomes != ["claimed"]
    assert names_in(site.folder("inbox")) == {"a.md", "a.md.ready"}
    assert names_in(site.claims_folder()) == set()


async def test_whoever_has_the_marker_has_the_file(site: Site) -> None:
    """Of two daemons only one gets it; the other leaves the file alone."""
    site.drop("a.md")
    file = replace(await site.wanted("a.md"), marker="a.md.ready")

    outcomes = await site.claim(file)

    assert outcomes == ["changed"]
    assert names_in(site.folder("inbox")) == {"a.md"}
