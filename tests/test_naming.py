import os
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchbox.model import CustomId, Nonce
from batchbox.naming import (
    _IGNORED_ENDS,
    _IGNORED_NAMES,
    _ORDINARY_TAILS,
    claim_name,
    custom_id_from,
    custom_id_of_file,
    cut_to_bytes,
    is_custom_id,
    is_ignored,
    kept,
    new_nonce,
    numbered,
    parse_claim_name,
    parse_wire_id,
    stem_for,
    wire_id,
    with_suffix_number,
)

NAMES = (st.binary(min_size=1, max_size=300) | st.binary(min_size=220, max_size=300)).map(os.fsdecode)
CUSTOM_IDS = st.from_regex(r"[a-zA-Z0-9_-]{1,64}", fullmatch=True).map(CustomId)
NONCES = st.binary(min_size=5, max_size=5).map(new_nonce)


WINDOWS_DEVICES = {"con", "prn", "aux", "nul", "conin$", "conout$"} | {
    f"{port}{number}" for port in ("com", "lpt") for number in "0123456789\u00b9\u00b2\u00b3"
}
"""From Microsoft's documentation, "Naming Files, Paths, and Namespaces"."""


def size_bytes(name: str) -> int:
    return len(os.fsencode(name))


@pytest.mark.parametrize(
    ("stem", "expected"),
    [
        ("report-7", "report-7"),
        ("Report 7.final", "Report-7-final"),
        ("a  .. b", "a-b"),
        ("snake_case--kept", "snake_case--kept"),
        ("-rf", "-rf"),
        ("x" * 64, "x" * 64),
    ],
)
def test_a_plain_stem_becomes_an_id_without_a_hash(stem: str, expected: str) -> None:
    assert custom_id_from(stem) == expected


@pytest.mark.parametrize(
    ("stem", "readable"),
    [
        ("Müller & Söhne", "Muller-Sohne"),
        ("日本", "Ri-Ben"),
        ("x" * 65, "x" * 57),
        ("☃", "file"),
        ("", "file"),
        ("../x", "x"),
        ("a\nb", "a-b"),
        (os.fsdecode(b"caf\xe9"), "caf"),
    ],
)
def test_what_was_changed_or_cut_is_marked_by_a_hash(stem: str, readable: str) -> None:
    custom_id = custom_id_from(stem)

    head, _, digest = custom_id.rpartition("-")
    assert head == readable
    assert len(digest) == 6


def test_names_that_look_the_same_get_the_same_id() -> None:
    composed = unicodedata.normalize("NFC", "Résumé")
    decomposed = unicodedata.normalize("NFD", "Résumé")

    assert composed != decomposed
    assert custom_id_from(composed) == custom_id_from(decomposed)


def test_names_that_look_the_same_get_the_same_stem() -> None:
    """Macs take names apart, others do not: the answer is called the same."""
    names = ["Ångström 한국어.md", "ﬁle.md", "Ž.md"]

    for name in names:
        stems = {stem_for(custom_id_of_file(unicodedata.normalize(form, name))) for form in ("NFC", "NFD")}
        assert len(stems) == 1, name


def test_names_that_look_alike_and_are_not_get_different_ids() -> None:
    """Cyrillic, Greek, full-width and Latin letters; zero-width characters; the dotless i."""
    looks = ["case", "\u0441ase", "cas\u0435", "ca\u200bse", "\uff43ase", "c\u03b1se", "c\u0131se", "CASE"]

    assert len({custom_id_from(look) for look in looks}) == len(looks)


def test_a_direction_mark_leaves_no_trace_but_the_hash() -> None:
    custom_id = custom_id_from("gpj.\u202egnp")

    assert custom_id.rpartition("-")[0] == "gpj-gnp"


@pytest.mark.parametrize(
    "name", ["COM\u00b9.md", "lpt\u00b2.md", "Com\u00b3.txt", "CON .md", "nul..md", "aux.tar.md", "PRN", "con.md"]
)
def test_what_windows_takes_for_a_device_is_none_in_the_outbox(name: str) -> None:
    """A raised digit counts there as a digit, and spaces and dots before the extension as nothing."""
    stem = stem_for(custom_id_of_file(name))

    assert stem.lower() not in WINDOWS_DEVICES
    assert not set(stem) & set(" .")


def test_names_that_read_the_same_without_accents_get_different_ids() -> None:
    assert len({custom_id_from(stem) for stem in ("Resume", "Résume", "Resumé", "Résumé")}) == 4


def test_the_extension_is_not_part_of_the_id() -> None:
    assert custom_id_of_file("Report 7.final.md") == "Report-7-final"


@settings(deadline=None)
@given(st.one_of(NAMES, st.text(alphabet=st.characters())))
def test_every_name_gives_a_valid_id(name: str) -> None:
    assert is_custom_id(custom_id_from(name))


@settings(deadline=None)
@given(CUSTOM_IDS, st.integers(min_value=1, max_value=10**9))
def test_numbers_are_kept_whole_and_make_ids_different(custom_id: CustomId, n: int) -> None:
    first, second = numbered(custom_id, n), numbered(custom_id, n + 1)

    assert is_custom_id(first)
    assert first.endswith(f"-{n}")
    assert first != second


def test_long_ids_that_differ_at_the_end_stay_different_when_numbered() -> None:
    assert numbered(CustomId("x" * 63 + "a"), 1) != numbered(CustomId("x" * 63 + "b"), 1)


@pytest.mark.parametrize("text", ["", "x" * 65, "a b", "a.b", "ä", "a\n", "../x"])
def test_what_the_api_refuses_is_no_custom_id(text: str) -> None:
    assert not is_custom_id(text)


@settings(deadline=None)
@given(CUSTOM_IDS, NONCES, st.integers(min_value=0, max_value=99_999))
def test_a_wire_id_tells_its_nonce_and_number(custom_id: CustomId, nonce: Nonce, number: int) -> None:
    sent = wire_id(custom_id, nonce=nonce, number=number)

    assert is_custom_id(sent)
    assert sent.startswith(custom_id[:44])
    assert parse_wire_id(sent) == (nonce, number)


def test_the_longest_id_and_the_largest_number_fit_into_a_wire_id() -> None:
    sent = wire_id(CustomId("x" * 64), nonce=Nonce("aaaaaaaa"), number=999_999_999)

    assert len(sent) == 64
    assert parse_wire_id(sent) == ("aaaaaaaa", 999_999_999)


def test_an_id_that_looks_like_a_wire_id_does_not_confuse_the_reading() -> None:
    sent = wire_id(CustomId("a__aaaaaaaa-1"), nonce=Nonce("bbbbbbbb"), number=2)

    assert parse_wire_id(sent) == ("bbbbbbbb", 2)


@pytest.mark.parametrize(
    "text",
    ["", "report-7", "a__bbbbbbbb", "a__bbbbbbb-1", "a__bbbbbbb1-1", "a__BBBBBBBB-1", "__bbbbbbbb-1", "a__bbbbbbbb-01"],
)
def test_other_peoples_names_are_no_wire_ids(text: str) -> None:
    assert parse_wire_id(text) is None


@pytest.mark.parametrize("name", ["CON", "con", "Prn", "AUX", "nul", "COM0", "com9", "LPT1", "lpt9"])
def test_names_that_windows_reserves_are_moved_out_of_the_way(name: str) -> None:
    assert stem_for(CustomId(name)) == f"id-{name}"


@pytest.mark.parametrize("name", ["CONSOLE", "com", "com10", "id-con", "report"])
def test_other_names_are_stems_as_they_are(name: str) -> None:
    assert stem_for(CustomId(name)) == name


@pytest.mark.parametrize(
    ("name", "n", "expected"),
    [
        ("a.md", 1, "a.md"),
        ("a.md", 2, "a__2.md"),
        ("a.tar.gz", 3, "a.tar__3.gz"),
        ("README", 2, "README__2"),
        (".hidden", 2, ".hidden__2"),
    ],
)
def test_the_number_stands_before_the_extension(name: str, n: int, expected: str) -> None:
    assert with_suffix_number(name, n) == expected


@settings(deadline=None)
@given(NAMES, st.integers(min_value=2, max_value=10**6))
def test_numbered_names_fit_and_differ(name: str, n: int) -> None:
    chosen = with_suffix_number(name, n)

    assert size_bytes(chosen) <= 255
    assert f"__{n}" in chosen
    assert chosen != with_suffix_number(name, n + 1)


@settings(deadline=None)
@given(NAMES, st.integers(min_value=1, max_value=255))
def test_cutting_fits_and_leaves_short_names_alone(name: str, limit: int) -> None:
    cut = cut_to_bytes(name, limit)

    assert size_bytes(cut) <= limit
    assert (cut == name) == (size_bytes(name) <= limit)


@settings(deadline=None)
@given(st.text(alphabet="aä€😀", min_size=100))
def test_cutting_never_goes_through_a_character(stem: str) -> None:
    cut = cut_to_bytes(f"{stem}.md", 60)

    assert cut.endswith(".md")
    assert stem.startswith(cut.removesuffix(".md"))
    assert 57 <= size_bytes(cut) <= 60


def test_an_extension_longer_than_the_limit_is_cut_itself() -> None:
    assert cut_to_bytes("a." + "x" * 300, 10) == "a.xxxxxxxx"


@settings(deadline=None)
@given(
    NAMES.filter(lambda name: "\0" not in name),
    st.integers(min_value=0, max_value=253_402_300_799_999),
    st.binary(min_size=8, max_size=8),
)
def test_a_claim_tells_when_what_was_dropped(name: str, dropped_ms: int, random_bytes: bytes) -> None:
    claim = claim_name(name, dropped_ms=dropped_ms, random_bytes=random_bytes)

    assert size_bytes(claim) <= 255
    assert parse_claim_name(claim) == (dropped_ms, kept(name))


def test_claims_sort_by_the_time_of_the_drop() -> None:
    claims = [
        claim_name("a.md", dropped_ms=at, random_bytes=bytes([255 - at % 256] * 8)) for at in (1, 255, 256, 10**12)
    ]

    assert claims == sorted(claims)


@pytest.mark.parametrize(
    "name",
    [
        *("a.md", "0190~a.md", "000000000001-0123456789abcdef~", "000000000001-0123456789ABCDEF~a.md"),
        *("ffffffffffff-0123456789abcdef~a.md", "e677d21fdc00-0123456789abcdef~a.md"),  # after the year 9999
    ],
)
def test_other_names_are_no_claims(name: str) -> None:
    assert parse_claim_name(name) is None


@pytest.mark.parametrize(
    "name",
    [
        ".DS_Store",
        "._report.md",
        ".localized",
        ".report.md.swp",
        ".#report.md",
        ".~lock.report.odt#",
        ".report.md.a1B2c3",
        ".~tmp~",
        ".goutputstream-ABC123",
        ".nfs000000000123",
        ".fuse_hidden0000000100000001",
        ".smbdelete0001",
        ".in.report.md.",
        ".pureftpd-upload.5f.15.1a2b",
        ".syncthing.report.md.tmp",
        ".dropbox.cache",
        ".sync_1234.db-wal",
        ".report.md.icloud",
        ".report.md.kate-swp",
        "~$report.docx",
        "~WRL0001.tmp",
        "~syncthing~report.md.tmp",
        "~report~1.idlk",
        "_prompt.md",
        "_lane.toml",
        "4913",
        "5036",
        "Thumbs.db",
        "ehthumbs.db",
        "ehthumbs_vista.db",
        "desktop.ini",
        "Desktop.ini",
        "$RECYCLE.BIN",
        "System Volume Information",
        "Icon\r",
        "Network Trash Folder",
        "Temporary Items",
        "TheVolumeSettingsFolder",
        "lost+found",
        "@eaDir",
        "#recycle",
        "#snapshot",
        "@Recycle",
        "@Recently-Snapshot",
        "report.md~",
        "report.tmp",
        "ABC.TMP",
        "report.temp",
        "report.swp",
        "report.swo",
        "report.swn",
        "report.swx",
        "report.md.crdownload",
        "Unconfirmed 12345.crdownload",
        "report.md.crswap",
        "report.md.part",
        "report.md.partial",
        "report.md.1a2b3c4d.partial",
        "report.md.download",
        "report.md.opdownload",
        "report.md.filepart",
        "report.md.aria2",
        "report.md_.gstmp",
        "report.md.!sync",
        "report.md___jb_tmp___",
        "report.md___jb_old___",
        "report.md___jb_bak___",
        "#report.md#",
        "report.md.sb-1a2b3c4d-AbCdEf",
        "report.sync-conflict-20260801-120000-ABCDEFG.md",
        "report.sync-conflict-20150801-120000.md",
        "report (Anna's conflicted copy 2026-08-01).md",
        "report (conflicted copy 2026-08-01 120000).md",
        "report (Case Conflict).md",
        "report (Case Conflict 1).md",
        "report (SFConflict anna@example.org 2026-08-01-12-00-00).md",
        "report_conflict-20260801-120000.md",
        # Dropbox elsewhere in Europe, and its other conflicts; pCloud; Synology Drive
        "Bericht (In Konflikt stehende Kopie von Anna 2026-08-01).md",
        "rapport (Copie en conflit de Anna 2026-08-01).md",
        "informe (Copia en conflicto de Anna 2026-08-01).md",
        "rapporto (Copia in conflitto di Anna 2026-08-01).md",
        "report (Whitespace Conflict).md",
        "report (Selective Sync Conflict).md",
        "report (Unicode Encoding Conflict 2).md",
        "report [conflicted].md",
        "report [conflicted 2].md",
        "report_DiskStation_Aug-01-120000-2026_Conflict.md",
        "report_ANNAS-PC_Aug-01-1200-2026_CaseConflict.md",
        # what programs put beside a file on a share
        "report.md:Zone.Identifier",
        "report.md\uf03aZone.Identifier",
        "Thumbs.db:encryptable",
        "report.md:AFP_AfpInfo",
        "report.md:AFP_Resource",
        ":2eDS_Store",
        ":2e_report.md",
        "@tmp",
        "@sharebin",
        "report.bak",
        "report.md.bak",
        "report.md.save",
        "5282",
        "XRX0001.LCK",
        "data.laccdb",
        # downloads
        "report.md.fdmdownload",
        "report.md.!ut",
        "report.md.!qB",
        "report.md.bc!",
        # FTP and file servers, and what uploads to them
        ".report.md.Xa12Bc",
        ".fuse_hidden0000000a00000001",
        ".nfs00000000000a1b2c00000001",
        ".~report.md",
        "._.report.md",
    ],
)
def test_what_programs_leave_behind_is_never_a_request(name: str) -> None:
    assert is_ignored(name)


@pytest.mark.parametrize(
    "name",
    [
        "report.md",
        "4913.md",
        "part.md",
        "tmp",
        "tmp.json",
        "my.partner.md",
        "download.txt",
        "Conflict of interest.md",
        "conflicted copy.md",
        "the-conflict-20260801.md",
        "case conflict.md",
        "#1 question.md",
        "#hashtag.md",
        "C#.md",
        "a~b.md",
        "Thumbs.md",
        "desktop.init",
        "icon.md",
        "lost+found.md",
        "notes (copy).md",
        "notes (1).md",
        "sync.conflict.md",
        "temp report.txt",
        "swp.txt",
        "report.sb-1.md",
        # copies that may be what somebody meant, and cannot be told from it: OneDrive, Google Drive, iCloud, Windows
        "report-ANNAS-PC.md",
        "report (1).md",
        "report 2.md",
        "report - Copy.md",
        "report - Copy (2).md",
        "Copy of report.md",
        "konflikt.md",
        "In Konflikt stehende Kopie.md",
        "conflicted.md",
        "report_Conflict.md",
        "a conflict [1].md",
        "backup.md",
        "bak.md",
        "save.md",
        "Zone.Identifier.md",
        "2e.md",
        "@home.md",
        "lck.txt",
        "1A2B3C4D",  # Excel's while it saves: it is renamed long before its time is up
        "report.ready",
        "report.cancel",
        os.fsdecode(b"caf\xe9.md"),
    ],
)
def test_a_document_is_never_taken_for_a_leftover(name: str) -> None:
    assert not is_ignored(name)


def test_an_ordinary_end_is_never_that_of_an_ignored_name() -> None:
    """Names with such an end are not looked at further."""
    assert not {end for end in (*_IGNORED_ENDS, *_IGNORED_NAMES) if end.endswith(tuple(_ORDINARY_TAILS))}
