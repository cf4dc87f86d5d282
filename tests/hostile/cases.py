"""The hostile cases, by the attack that they belong to. To add one, add a line.

A line says what the case is, the dropped file's name, how the file is made, and what must become of it: a reason in
rejected/, or one of

    answered    every request in it is answered
    error       it is sent, and the API refuses it: `.error.json`
    once        with the files beside it it is one request, which is answered
    left        it is none of ours: it stays where it is, untouched
"""

import codecs
import json
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .making import (
    CANARY,
    LOOP,
    TERMINAL,
    ZERO,
    Make,
    as_json,
    bound_socket,
    content,
    grown,
    hard_link,
    lines,
    link,
    pipe,
    prompt,
    request,
    toml,
    yaml,
)

MB = 1_000_000

ANSWERED = "answered"
ERROR = "error"
ONCE = "once"
LEFT = "left"


@dataclass(frozen=True, slots=True)
class Case:
    """One hostile file."""

    name: str
    """What it is, in a few words."""
    file: bytes | str
    """The name that it is dropped under."""
    make: Make
    expected: str
    answers: int = 1
    """How many requests are answered."""
    needs_root: bool = False
    is_heavy: bool = False
    """It takes its time, and is tried in the long form alone."""


ODD_FILES = [
    Case("link to a secret", "secret.md", link("{secret}"), "not_a_regular_file"),
    Case("link to the database", "database.md", link("{database}"), "not_a_regular_file"),
    Case("link to /etc/passwd", "passwd.md", link("/etc/passwd"), "not_a_regular_file"),
    Case("link to nothing", "dangling.md", link("/nowhere/at/all"), "not_a_regular_file"),
    Case("link to itself", "loop.md", link("{self}"), "not_a_regular_file"),
    Case("link to a folder", "folder-link.md", link("{folder}"), "not_a_regular_file"),
    Case("link to an endless device", "zero-link.md", link("/dev/zero"), "not_a_regular_file"),
    Case("link to our own memory", "environ.md", link("/proc/self/environ"), "not_a_regular_file"),
    Case("link with a JSON name", "secret.json", link("{secret}"), "not_a_regular_file"),
    Case("link with a JSON Lines name", "secret.jsonl", link("{secret}"), "not_a_regular_file"),
    Case("link of an unknown type", "secret.doc", link("{secret}"), "not_a_regular_file"),
    Case("link upwards", "up.md", link("../../../../../../etc/hostname"), "not_a_regular_file"),
    Case("second name of somebody's file", "hard.md", hard_link, "hard_link"),
    Case("second name with a JSON name", "hard.json", hard_link, "hard_link"),
    Case("pipe", "pipe.md", pipe, "not_a_regular_file"),
    Case("pipe with a JSON Lines name", "pipe.jsonl", pipe, "not_a_regular_file"),
    Case("socket", "socket.md", bound_socket, "not_a_regular_file"),
    Case("device without an end", "zero.md", ZERO, "not_a_regular_file", needs_root=True),
    Case("terminal", "terminal.md", TERMINAL, "not_a_regular_file", needs_root=True),
    Case("disk that is not there", "disk.json", LOOP, "not_a_regular_file", needs_root=True),
]
"""Attacks 1, 3 and 4. A folder with a file's name is a lane."""

SIZES = [
    Case("1 TiB that takes no room", "sparse.md", grown(2**40), "too_large"),
    Case("1 TiB of JSON", "sparse.json", grown(2**40, b'{"messages": ['), "too_large"),
    Case("1 TiB of JSON Lines", "sparse.jsonl", grown(2**40, b'{"messages": [1]}\n'), "too_large"),
    Case("1 TiB of unknown type", "sparse.bin", grown(2**40), "too_large"),
    Case("one byte too many", "over.md", content(b"x" * (8 * MB + 1)), "too_large", is_heavy=True),
    Case("nothing", "nothing.md", content(b""), "empty"),
    Case("nothing but white space", "white.md", content(b" \t\r\n" * 1000), "empty"),
    Case("nothing in a JSON file", "nothing.json", content(b""), "empty"),
    Case("nothing in JSON Lines", "nothing.jsonl", content(b"\n\n\r\n  \n"), "empty"),
    Case("nothing but a BOM", "bom.md", content(codecs.BOM_UTF8), "empty"),
    Case("nothing but a UTF-16 BOM", "bom16.md", content(codecs.BOM_UTF16_LE), "empty"),
    Case("room made and never filled", "nuls.md", content(b"\0" * 100_000), "incomplete"),
    Case("a start, and room for the rest", "nul-end.md", content(CANARY.encode() + b"\0" * 4096), "incomplete"),
    Case("a start, and room for the rest of JSON", "nul-end.json", grown(4096, b'{"messages": ['), "incomplete"),
    Case("3 MB without a line end", "line.md", content(CANARY.encode() + b"x" * 3 * MB), ANSWERED, is_heavy=True),
    Case("3 MB of line ends", "ends.md", content(CANARY.encode() + b"\n" * 3 * MB), ANSWERED, is_heavy=True),
    Case("2 MB of one character beyond 16 bits", "emoji.md", content("\U0001f4a3" * 500_000), ANSWERED, is_heavy=True),
]
"""Attack 6; files have at most 8 MB here, and of JSON Lines 40 MB."""

LONG = "n" * 251
NAMES = [
    Case("255 bytes", LONG + ".md", prompt(), ANSWERED),
    Case("255 bytes of unknown type", "n" * 255, prompt(), "unknown_type"),
    Case("255 bytes, all in the extension", "a." + "x" * 253, prompt(), "unknown_type"),
    Case("255 bytes of two-byte characters", "é" * 126 + ".md", prompt(), ANSWERED),
    Case("255 bytes that are not UTF-8", b"\xff" * 252 + b".md", prompt(), ANSWERED),
    Case("line end", "a\nb.md", prompt(), ANSWERED),
    Case("line end that forges a log line", "a\ninfo file taken file=b.md lane=_", prompt(), "unknown_type"),
    Case("carriage return", "safe.md\rfake.txt", prompt(), ANSWERED),
    Case("tab and bell", "\t\x07.md", prompt(), ANSWERED),
    Case("escape code that clears a terminal", "\x1b[2J\x1b[31m.md", prompt(), ANSWERED),
    Case("escape code that sets a title", "\x1b]0;owned\x07.txt", prompt(), ANSWERED),
    Case("C1 control characters", "\x9b31m\x85.md", prompt(), ANSWERED),
    Case("right-to-left override", "gpj.\u202egnp.md", prompt(), ANSWERED),
    Case("isolates", "\u2066a\u2069\u2067b.md", prompt(), ANSWERED),
    Case("zero-width characters", "in\u200bvi\u200dsible\ufeff.md", prompt(), ANSWERED),
    Case("line and paragraph separators", "a\u2028b\u2029.md", prompt(), ANSWERED),
    Case("tag characters", "a\U000e0041\U000e007f.md", prompt(), ANSWERED),
    Case("invalid UTF-8", b"caf\xe9.md", prompt(), ANSWERED),
    Case("invalid UTF-8 of unknown type", b"\xc3\x28\xfe\xff.bin", prompt(), "unknown_type"),
    Case("overlong UTF-8", b"\xc0\xaf\xc0\xae.md", prompt(), ANSWERED),
    Case("a surrogate in UTF-8", b"\xed\xa0\x80.md", prompt(), ANSWERED),
    Case("rejected under invalid UTF-8", b"\xe9\n\x1b.json", content("{]"), "bad_json"),
    Case("option", "-rf.md", prompt(), ANSWERED),
    Case("long option", "--config=evil.md", prompt(), ANSWERED),
    Case("leading space", " leading.md", prompt(), ANSWERED),
    Case("trailing space", "trailing.md ", prompt(), "unknown_type"),
    Case("trailing dot", "trailing.md.", prompt(), "unknown_type"),
    Case("nothing but a space", " ", prompt(), "unknown_type"),
    Case("nothing but an ideographic space", "\u3000.md", prompt(), ANSWERED),
    Case("shell", "$(reboot);`reboot`|&.md", prompt(), ANSWERED),
    Case("quotes", "'\"\\.md", prompt(), ANSWERED),
    Case("glob", "*?[a-z].md", prompt(), ANSWERED),
    Case("HTML", "<script>alert(1)<!--.md", prompt(), ANSWERED),
    Case("SQL", "'); DROP TABLE sources; --.md", prompt(), ANSWERED),
    Case("format", "%s%n{0}{name}.md", prompt(), ANSWERED),
    Case("a path, as Windows writes it", "x\\..\\evil.md", prompt(), ANSWERED),
    Case("a path that begins with dots", "..\\..\\evil.md", prompt(), LEFT),
    Case("reserved on Windows", "CON.md", prompt(), ANSWERED),
    Case("reserved on Windows, in any case", "nUl.txt", prompt(), ANSWERED),
    Case("reserved on Windows, with more dots", "aux.tar.md", prompt(), ANSWERED),
    Case("reserved on Windows, with a raised digit", "COM¹.md", prompt(), ANSWERED),
    Case("a stream, as Windows writes it", "a.md:hidden.txt", prompt(), ANSWERED),
    Case("name of our own explanation", "a.md.error.txt", prompt(), ANSWERED),
    Case("name of our own result", "forged.result.json", as_json(request()), ANSWERED),
    Case("name of our own claim", "000000000001-0123456789abcdef~x.md", prompt(), ANSWERED),
    Case("name of our own part", ".bb-part-0123456789abcdef.part", prompt(), LEFT),
    Case("hidden", ".hidden.md", prompt(), LEFT),
    Case("temporary", "~$letter.md", prompt(), LEFT),
    Case("a lane's own file", "_anything.md", prompt(), LEFT),
    Case("extension alone", "md", prompt(), "unknown_type"),
    Case("dots alone", "...md", prompt(), LEFT),
    Case("extension in capitals", "LOUD.MD", prompt(), ANSWERED),
    Case("extension with a Kelvin sign", "a.m\u212a", prompt(), "unknown_type"),
    Case("an accent, composed", unicodedata.normalize("NFC", "Résumé.md"), prompt("composed " + CANARY), ANSWERED),
    Case("the same, decomposed", unicodedata.normalize("NFD", "Résumé.md"), prompt("other " + CANARY), ANSWERED),
    Case("small", "case.md", prompt("small " + CANARY), ANSWERED),
    Case("the same in capitals", "CASE.md", prompt("capital " + CANARY), ANSWERED),
    Case("looks like Latin, is Cyrillic", "\u0441ase.md", prompt("cyrillic " + CANARY), ANSWERED),
    Case("dotless i", "f\u0131le.md", prompt("dotless " + CANARY), ANSWERED),
    Case("sharp s", "straße.md", prompt("sharp " + CANARY), ANSWERED),
    Case("the same, folded", "strasse.md", prompt("folded " + CANARY), ANSWERED),
    Case("no letter that Latin knows", "日本語.md", prompt(), ANSWERED),
    Case("nothing but emoji", "💣💣.md", prompt(), ANSWERED),
]
"""Attacks 7 and 11."""


def deep(depth: int) -> bytes:
    """Return a request whose content is nested so deep."""
    return b'{"messages": [{"role": "user", "content": ' + b"[" * depth + b"]" * depth + b"}]}"


def with_value(value: bytes) -> Make:
    """Make a request with a field of this value, spelled as it stands."""
    return content(b'{"messages": [{"role": "user", "content": "' + CANARY.encode() + b'"}], "top_k": ' + value + b"}")


GOOD = json.dumps(request()).encode()

JSON = [
    Case(
        "many empty lists",
        "lists.json",
        content(b'{"messages": [' + b"[]," * 2_500_000 + b"[]]}"),
        "too_large",
        is_heavy=True,
    ),
    Case("many empty objects", "objects.json", content(b"[" + b"{}," * 2_500_000 + b"{}]"), "too_large", is_heavy=True),
    Case(
        "many numbers",
        "numbers.json",
        content(b'{"messages": [' + b"0," * 3_900_000 + b"0]}"),
        "too_large",
        is_heavy=True,
    ),
    Case(
        "many small requests",
        "many.json",
        content(b"[" + b'{"messages":[1]},' * 90_000 + b"1]"),
        "too_large",
        is_heavy=True,
    ),
    Case("many bad requests", "bad.json", content(b"[" + b"1," * 290_000 + b"1]"), "too_large", is_heavy=True),
    Case(
        "299,000 values",
        "values.json",
        content(b'{"messages": [' + b"0," * 299_000 + b"0]}"),
        ERROR,
        is_heavy=True,
    ),
    Case(
        "100,000 keys",
        "keys.json",
        as_json(request(metadata={str(n): "" for n in range(100_000)})),
        ANSWERED,
        is_heavy=True,
    ),
    Case("64 deep", "64.json", content(deep(61)), ERROR),
    Case("65 deep", "65.json", content(deep(62)), "too_deep"),
    Case("100,000 deep", "100000.json", content(deep(100_000)), "too_deep"),
    Case("a million deep", "million.json", content(deep(1_000_000)), "too_large", is_heavy=True),
    Case("100,000 deep and open", "open.json", content(b"[" * 100_000), "too_deep"),
    Case("a million deep and open", "million-open.json", content(b"[" * 1_000_000), "too_large", is_heavy=True),
    Case("a million closed", "closed.json", content(b"]" * 1_000_000), "bad_json", is_heavy=True),
    Case("objects 100,000 deep", "object-deep.json", content(b'{"a":' * 100_000 + b"1" + b"}" * 100_000), "too_deep"),
    Case("integer of a million digits", "digits.json", with_value(b"9" * 1_000_000), "bad_json", is_heavy=True),
    Case("integer over 64 bits", "65bits.json", with_value(b"18446744073709551616"), "bad_json"),
    Case("number out of range", "range.json", with_value(b"1e999999999"), "bad_json"),
    Case("number with a million zeros", "zeros.json", with_value(b"1." + b"0" * 1_000_000), ERROR, is_heavy=True),
    Case("long number out of range", "long-range.json", with_value(b"1." + b"0" * 2_000 + b"e400"), "bad_json"),
    Case(
        "hostile to regular expressions: open quotes behind a number that is out of range",
        "regex-quotes.json",
        content(b"[1." + b"0" * 1_200 + b"e400," + b'\\"' * 200_000 + b"]"),
        "bad_json",
    ),
    Case("NaN", "nan.json", with_value(b"NaN"), "bad_json"),
    Case("Infinity", "infinity.json", with_value(b"-Infinity"), "bad_json"),
    Case("hexadecimal", "hex.json", with_value(b"0x10"), "bad_json"),
    Case("leading zero", "octal.json", with_value(b"010"), "bad_json"),
    Case("key twice", "twice.json", content(b'{"messages": [1], "max_tokens": 1, "max_tokens": 300000}'), "bad_json"),
    Case(
        "key twice, once escaped",
        "escaped.json",
        content(b'{"messages": [1], "max_tokens": 1, "max\\u005ftokens": 300000}'),
        "bad_json",
    ),
    Case("key twice, deep inside", "inside.json", content(b'{"messages": [{"a": {"b": 1, "b": 2}}]}'), "bad_json"),
    Case(
        "key twice, hidden by colons", "colons.json", content(b'{"messages": [":::"], "a": "::", "a": 1}'), "bad_json"
    ),
    Case("lone surrogate", "surrogate.json", content(b'{"messages": ["\\ud800"]}'), "bad_json"),
    Case("surrogates the wrong way round", "reversed.json", content(b'{"messages": ["\\udc00\\ud800"]}'), "bad_json"),
    Case("surrogate as bytes", "bytes.json", content(b'{"messages": ["\xed\xa0\x80"]}'), "bad_encoding"),
    Case("NUL between", "nul.json", content(b'{"messages": ["a\0b"]}'), "bad_encoding"),
    Case("NUL escaped", "nul-escaped.json", as_json({"messages": [{"role": "user", "content": "a\0b"}]}), ANSWERED),
    Case("control character in a string", "control.json", content(b'{"messages": ["a\x01b"]}'), "bad_json"),
    Case("garbage behind", "behind.json", content(GOOD + b" garbage"), "bad_json"),
    Case("two documents", "two.json", content(GOOD + GOOD), "bad_json"),
    Case("comment", "comment.json", content(b"// hello\n" + GOOD), "bad_json"),
    Case("trailing comma", "comma.json", content(GOOD[:-1] + b",}"), "bad_json"),
    Case("single quotes", "quotes.json", content(b"{'messages': [1]}"), "bad_json"),
    Case("not an object", "number.json", content(b"42"), "bad_json"),
    Case("null", "null.json", content(b"null"), "bad_json"),
    Case("a text", "text.json", content(b'"hello"'), "bad_json"),
    Case("an empty list", "list.json", content(b"[]"), "empty"),
    Case("no requests", "requests.json", content(b'{"requests": []}'), "empty"),
    Case("requests in requests", "nested.json", content(b'{"requests": [{"requests": []}]}'), "bad_json"),
    Case("requests that are none", "no-list.json", content(b'{"requests": {"messages": [1]}}'), "bad_json"),
    Case("cut off", "cut.json", content(GOOD[:-3]), "incomplete"),
    Case("cut off in an escape", "cut-escape.json", content(b'{"messages": ["\\'), "incomplete"),
    Case("UTF-8 with BOM", "bom.json", content(codecs.BOM_UTF8 + GOOD), ANSWERED),
    Case("two BOMs", "boms.json", content(codecs.BOM_UTF8 * 2 + GOOD), "bad_json"),
    Case("UTF-16, little end first", "le.json", content(GOOD.decode().encode("utf-16")), ANSWERED),
    Case(
        "UTF-16, big end first",
        "be.json",
        content(codecs.BOM_UTF16_BE + GOOD.decode().encode("utf-16-be")),
        ANSWERED,
    ),
    Case("UTF-16 without BOM", "no-bom.json", content(GOOD.decode().encode("utf-16-le")), "bad_encoding"),
    Case("UTF-16 with half a character", "half.json", content(GOOD.decode().encode("utf-16") + b"x"), "bad_encoding"),
    Case("UTF-32", "utf32.json", content(GOOD.decode().encode("utf-32")), "bad_encoding"),
    Case("UTF-7", "utf7.json", content(b"+AHs-"), "bad_json"),
    Case("Latin-1", "latin.json", content('{"messages": ["é"]}'.encode("latin-1")), "bad_encoding"),
    Case("compressed", "gzip.json", content(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03"), "bad_encoding"),
    Case(
        "backslashes without an end",
        "slashes.json",
        content(b'{"messages": ["' + b"\\\\" * 2 * MB + b'"]}'),
        ERROR,
        is_heavy=True,
    ),
    Case(
        "escaped quotes without an end",
        "escapes.json",
        content(b'{"messages": ["' + b'\\"' * 2 * MB),
        "incomplete",
        is_heavy=True,
    ),
    Case("prototype", "proto.json", as_json(request(__proto__={"stream": True})), ERROR),
]
"""Attack 8, documents."""

TEXTS = [
    Case("Latin-1", "latin.md", content("café".encode("latin-1")), "bad_encoding"),
    Case("NUL between", "nul.md", content(b"a\0b"), "bad_encoding"),
    Case("UTF-16", "wide.md", content(CANARY.encode("utf-16")), ANSWERED),
    Case("UTF-16 with a lone surrogate", "lone.md", content(b"\xff\xfe\x00\xd8a\x00"), "bad_encoding"),
    Case("UTF-32", "wider.md", content(CANARY.encode("utf-32")), "bad_encoding"),
    Case("image by another name", "image.md", content(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"), "bad_encoding"),
    Case("program", "program.txt", content(b"\x7fELF\x02\x01\x01\0\0\0"), "incomplete"),
    Case("TOML that does not end", "open.md", content(f"+++\nmodel = 'x'\n{CANARY}"), "bad_header"),
    Case("TOML with an unknown key", "unknown.md", toml("colour = 'red'"), "bad_header"),
    Case("TOML with params of ours", "stream.md", toml("stream = true"), "bad_header"),
    Case("TOML with a key twice", "twice.md", toml("max_tokens = 5\nmax_tokens = 6"), "bad_header"),
    Case("TOML with a date", "date.md", toml("metadata = {when = 2026-08-01}"), "bad_header"),
    Case("TOML with an endless number", "inf.md", toml("temperature = inf"), "bad_header"),
    Case("TOML with no number", "nan.md", toml("temperature = nan"), "bad_header"),
    Case("TOML with 5,000 digits", "digits.md", toml("max_tokens = " + "9" * 5_000), "bad_header"),
    Case("TOML with a lone surrogate", "surrogate.md", toml(r'system = "\ud800"'), "bad_header"),
    Case("TOML 5,000 deep", "deep.md", toml("metadata = {a = " + "[" * 5_000 + "]" * 5_000 + "}"), "bad_header"),
    Case("TOML with a key of 5,000 parts", "dotted.md", toml("metadata" + ".a" * 5_000 + " = 1"), "bad_header"),
    Case("TOML with 60,000 tables", "tables.md", toml("[metadata]\n" * 5_000), "bad_header"),
    Case("TOML that is too long", "long.md", toml(f'system = "{"x" * 70_000}"'), "bad_header"),
    Case("TOML with NUL", "nul-header.md", toml(r'system = "\u0000"'), ANSWERED),
    Case("TOML of the wrong types", "types.md", toml(f'max_tokens = "{CANARY}"\nbetas = 1\nsystem = 2'), "bad_header"),
    Case("TOML header alone", "alone.md", content("+++\nmodel = 'claude-opus-5-5'\n+++\n"), "empty"),
    Case("empty TOML header", "no-header.md", toml(""), ANSWERED),
    Case("YAML alias", "alias.md", yaml("system: &a hello\nmodel: *a"), "bad_header"),
    Case(
        "YAML that laughs a billion times",
        "laughs.md",
        yaml("metadata: &a [x, x]\nsystem: &b [*a, *a]\nbetas: [*b, *b]"),
        "bad_header",
    ),
    Case("YAML merge key", "merge.md", yaml("metadata: {<<: {a: 1}}\nmodel: x"), "bad_header"),
    Case("YAML object of Python's", "object.md", yaml("model: !!python/object/apply:os.system [id]"), "bad_header"),
    Case("YAML tag", "tag.md", yaml("system: !secret x"), "bad_header"),
    Case("YAML binary", "binary.md", yaml("system: !!binary aGVsbG8="), "bad_header"),
    Case("YAML key twice", "yaml-twice.md", yaml("max_tokens: 5\nmax_tokens: 6"), "bad_header"),
    Case("YAML 1,000 deep", "yaml-deep.md", yaml("metadata: " + "[" * 1_000 + "]" * 1_000), "bad_header"),
    Case("YAML in base 60", "base60.md", yaml("max_tokens: 1" + ":10" * 3_000), "bad_header"),
    Case("YAML that is no number", "yes.md", yaml("max_tokens: yes"), "bad_header"),
    Case("YAML character beyond all that there are", "beyond.md", yaml(r'system: "\UFFFFFFFF"'), "bad_header"),
    Case("YAML character just beyond", "just.md", yaml(r'system: "\U00110000"'), "bad_header"),
    Case("YAML with a lone surrogate", "yaml-surrogate.md", yaml(r'system: "\ud800"'), "bad_header"),
    Case("YAML of a version of 5,000 digits", "version.md", content("---\n%YAML 1." + "9" * 5_000), ANSWERED),
    Case(
        "YAML of a version of 5,000 digits, closed",
        "closed.md",
        yaml("%YAML 1." + "9" * 5_000 + "\nmodel: x"),
        "bad_header",
    ),
    Case("YAML second document", "documents.md", yaml("model: x\n... \nmodel: y"), "bad_header"),
    Case("YAML directive", "directive.md", yaml("%TAG ! !a\nmodel: x"), "bad_header"),
    Case("YAML with a tab", "tab.md", yaml("model:\n\t- x"), "bad_header"),
    Case("YAML of somebody else", "front-matter.md", yaml("title: A diary\ndate: 2026-08-01"), ANSWERED),
    Case("hostile to regular expressions: keys", "regex-keys.md", toml("a" * 60_000 + "!"), "bad_header"),
    Case("hostile to regular expressions: dots", "regex-dots.md", toml("a." * 30_000), "bad_header"),
    Case("hostile to regular expressions: quotes", "regex-quotes.md", toml('"\\' * 30_000), "bad_header"),
    Case(
        "hostile to regular expressions: fences",
        "fences.md",
        content("---\n" * 500_000 + CANARY),
        ANSWERED,
        is_heavy=True,
    ),
    Case(
        "hostile to regular expressions: spaces",
        "spaces.md",
        content("+++" + " " * 2 * MB + CANARY),
        ANSWERED,
        is_heavy=True,
    ),
    Case("terminal codes", "codes.md", content(f"\x1b[2J\x1b]0;owned\x07{CANARY}"), ANSWERED),
    Case("template", "template.md", content(f"{{{{ text }}}} {{{{ config.key }}}} ${{ENV}} {CANARY}"), ANSWERED),
]
"""Attack 8, texts and their headers."""


def numbered(count: int, *, bad: Mapping[int, object]) -> Make:
    """Make JSON Lines with so many requests, some of them bad."""
    return lines(*(bad.get(number, request(temperature=number / count)) for number in range(count)))


LINES = [
    Case("one bad line of 10,000", "one-bad.jsonl", numbered(10_000, bad={9_999: {"a": 1}}), "no_messages"),
    Case("10,000 bad lines", "all-bad.jsonl", lines(*[{"a": CANARY}] * 10_000), "no_messages", is_heavy=True),
    Case(
        "one bad line at the end of a long file",
        "long.jsonl",
        content((GOOD + b"\n") * 9_000 + b"{]"),
        "bad_json",
        is_heavy=True,
    ),
    Case(
        "line of 34 MB", "line.jsonl", content(b'{"messages": ["' + b"x" * 34 * MB + b'"]}'), "too_large", is_heavy=True
    ),
    Case(
        "line of 34 MB among others",
        "long-line.jsonl",
        content(GOOD + b"\n" + b"x" * 34 * MB + b"\n"),
        "too_large",
        is_heavy=True,
    ),
    Case("4 MB of line ends", "ends.jsonl", content(GOOD + b"\n" * 4 * MB), ANSWERED, is_heavy=True),
    Case(
        "60,000 requests of 17 bytes, one bad",
        "tiny.jsonl",
        content(b'{"messages":[1]}\n' * 60_000 + b"1\n"),
        "bad_json",
        is_heavy=True,
    ),
    Case("last line open", "open.jsonl", content(GOOD + b'\n{"messages": ["'), "incomplete"),
    Case("no line end at the end", "no-end.jsonl", content(GOOD), ANSWERED),
    Case("line ends of Windows", "windows.jsonl", content(GOOD + b"\r\n"), ANSWERED),
    Case("line ends of old Macs", "mac.jsonl", content(GOOD + b"\r" + GOOD), "bad_json"),
    Case("document over several lines", "pretty.jsonl", content(json.dumps(request(), indent=1)), "bad_json"),
    Case("a list on a line", "list.jsonl", lines([request()]), "bad_json"),
    Case("id twice", "twice.jsonl", lines(*[{"custom_id": "d", "params": request()}] * 2), "duplicate_id"),
    Case(
        "id twice, far apart",
        "far.jsonl",
        lines(
            {"custom_id": "far", "params": request()},
            *[request(temperature=0.5, stop_sequences=[str(n)]) for n in range(3_000)],
            {"custom_id": "far", "params": request(top_k=1)},
        ),
        "duplicate_id",
        is_heavy=True,
    ),
    Case(
        "explicit id that is a derived one",
        "mixed.jsonl",
        lines({"custom_id": "mixed-2", "params": request(top_k=1)}, request(top_k=2)),
        ANSWERED,
        answers=2,
    ),
    Case(
        "ids that differ in case",
        "cases.jsonl",
        lines({"custom_id": "Same", "params": request(top_k=3)}, {"custom_id": "same", "params": request(top_k=4)}),
        ANSWERED,
        answers=2,
    ),
    Case("UTF-16", "wide.jsonl", content((GOOD + b"\n").decode().encode("utf-16")), ANSWERED),
    Case("NUL in a line", "nul.jsonl", content(GOOD + b"\n\0\n" + GOOD), "bad_encoding"),
    Case("invalid UTF-8 in a line", "bad.jsonl", content(GOOD + b"\n\xff\n"), "bad_encoding"),
    Case("separators that are no line ends", "u2028.jsonl", content('{"messages": ["a\u2028b"]}\u2028{}'), "bad_json"),
]
"""Attack 8, JSON Lines."""


def custom_id(value: object) -> Make:
    """Make a request with an id of its own."""
    return as_json({"custom_id": value, "params": request(metadata={"id": str(value)})})


IDS = [
    Case("path", "path.json", custom_id("../x"), "bad_id"),
    Case("absolute path", "absolute.json", custom_id("/etc/passwd"), "bad_id"),
    Case("NUL", "nul.json", custom_id("a\0b"), "bad_id"),
    Case("line end at the end", "end.json", custom_id("abc\n"), "bad_id"),
    Case("65 characters", "65.json", custom_id("x" * 65), "bad_id"),
    Case("64 characters", "64.json", custom_id("x" * 64), ANSWERED),
    Case("a million characters", "million.json", custom_id("x" * MB), "bad_id", is_heavy=True),
    Case("nothing", "nothing.json", custom_id(""), "bad_id"),
    Case("a number", "number.json", custom_id(7), "bad_id"),
    Case("a list", "list.json", custom_id([CANARY]), "bad_id"),
    Case("dots", "dots.json", custom_id(".."), "bad_id"),
    Case("a space", "space.json", custom_id("a b"), "bad_id"),
    Case("Cyrillic", "cyrillic.json", custom_id("\u0441ase"), "bad_id"),
    Case("digits of another script", "digits.json", custom_id("١٢٣"), "bad_id"),
    Case("HTML", "html.json", custom_id("<b>"), "bad_id"),
    Case("reserved on Windows", "con.json", custom_id("CON"), ANSWERED),
    Case("option", "option.json", custom_id("-rf"), ANSWERED),
    Case("two underscores, like a wire id", "wire.json", custom_id("a__abcdefgh-0"), ANSWERED),
    Case("capital", "capital.json", custom_id("A"), ANSWERED),
    Case("small", "small.json", custom_id("a"), ANSWERED),
    Case("in the header", "header.md", toml('custom_id = "../../x"'), "bad_id"),
    Case("nothing but the last character is wrong", "last.json", custom_id("x" * 63 + "é"), "bad_id"),
]
"""Attack 9."""


def source(block: object) -> Make:
    """Make a request whose message has this block."""
    return as_json({"messages": [{"role": "user", "content": [block, {"type": "text", "text": CANARY}]}]})


FILE = {"type": "file", "file_id": "file_123"}

REACH = [
    Case("uploaded file", "file.json", source({"type": "document", "source": FILE}), "not_allowed"),
    Case("uploaded image", "image.json", source({"type": "image", "source": FILE}), "not_allowed"),
    Case("container upload", "upload.json", source({"type": "container_upload", "file_id": "f"}), "not_allowed"),
    Case(
        "uploaded file in a tool's result",
        "result.json",
        source({"type": "tool_result", "tool_use_id": "t", "content": [{"type": "image", "source": FILE}]}),
        "not_allowed",
    ),
    Case("uploaded file in system", "system.json", as_json(request(system=[{"source": FILE}])), "not_allowed"),
    Case("uploaded file in a field of tomorrow", "new.json", as_json(request(new=[[{"x": FILE}]])), "not_allowed"),
    Case(
        "uploaded file behind an escape",
        "escape.json",
        content(b'{"messages": [{"role": "user", "content": [{"source": {"\\u0066ile_id": "f"}}]}]}'),
        "not_allowed",
    ),
    Case(
        "uploaded file 60 deep",
        "deep.json",
        content(b'{"messages": [' + b'{"a":' * 60 + b'{"file_id": 1}' + b"}" * 60 + b"]}"),
        "not_allowed",
    ),
    Case("uploaded file in a header", "header.md", toml('metadata = {file_id = "f"}'), "not_allowed"),
    Case(
        "a tool's argument of that name",
        "argument.json",
        as_json(request(tools=[{"name": "t", "input_schema": {"properties": {"file_id": {}}}}])),
        ANSWERED,
    ),
    Case("the word in a text", "word.json", source({"type": "text", "text": '"file_id":'}), ANSWERED),
    Case("container", "container.json", as_json(request(container="c")), "not_allowed"),
    Case("container that is null", "null.json", as_json(request(container=None)), "not_allowed"),
    Case("MCP servers", "mcp.json", as_json(request(mcp_servers=[{"url": "http://127.0.0.1"}])), "not_allowed"),
    Case(
        "container behind an escape", "hidden.json", content(b'{"messages": [1], "c\\u006fntainer": 1}'), "not_allowed"
    ),
    Case("stream", "stream.json", as_json(request(stream=True)), "not_allowed"),
    Case("stream that is 1", "stream1.json", as_json(request(stream=1)), "not_allowed"),
    Case("stream that is off", "off.json", as_json(request(stream=False)), ANSWERED),
    Case("stream in the envelope", "envelope.json", as_json({"params": request(), "stream": True}), "bad_json"),
    Case("store", "store.json", as_json(request(store=True)), "not_allowed"),
    Case("speed", "speed.json", as_json(request(speed="fast")), "not_allowed"),
    Case("header of ours in the params", "betas.json", as_json(request(betas=["x"])), "not_allowed"),
    Case("id in the params", "id.json", as_json(request(custom_id="x")), "not_allowed"),
    Case("capital letters", "capital.json", as_json(request(Container="c")), ERROR),
]
"""Attack 14."""


def betas(value: object) -> Make:
    """Make a request that asks for these beta headers."""
    return as_json({"params": request(), "betas": value})


MONEY = [
    Case("more tokens than the model has", "over.json", as_json(request(max_tokens=300_001)), "over_limit"),
    Case("more tokens than any number", "huge.json", as_json(request(max_tokens=2**64 - 1)), "over_limit"),
    Case("no tokens", "zero.json", as_json(request(max_tokens=0)), "not_allowed"),
    Case("fewer tokens than none", "minus.json", as_json(request(max_tokens=-1)), "bad_json"),
    Case("tokens that are true", "true.json", as_json(request(max_tokens=True)), "bad_json"),
    Case("tokens that are a text", "text.json", as_json(request(max_tokens=CANARY)), "bad_json"),
    Case("tokens with a point", "point.json", as_json(request(max_tokens=5.0)), "bad_json"),
    Case("tokens that are null", "null.json", as_json(request(max_tokens=None)), ANSWERED),
    Case("model nobody knows", "unknown.json", as_json(request(model="claude-9")), "not_allowed"),
    Case("model nobody knows, with tokens", "known.json", as_json(request(model="c9", max_tokens=9)), ERROR),
    Case("model that is a list", "list.json", as_json(request(model=[CANARY])), "bad_json"),
    Case("model with a line end", "end.json", as_json(request(model="a\nb\x1b[2J", max_tokens=9)), ERROR),
    Case(
        "model of a million characters",
        "long.json",
        as_json(request(model="m" * MB, max_tokens=9)),
        ERROR,
        is_heavy=True,
    ),
    Case("no messages", "none.json", as_json({"params": {}}), "no_messages"),
    Case("empty messages", "empty.json", as_json({"messages": []}), "no_messages"),
    Case("messages that are a text", "messages.json", as_json({"messages": CANARY}), "no_messages"),
    Case("1,000 betas", "betas.json", betas([f"b{n}" for n in range(1_000)]), "bad_json"),
    Case("beta with a line end", "header.json", betas(["a\r\nx-api-key: b"]), "bad_json"),
    Case("beta with a comma", "comma.json", betas(["a,b"]), "bad_json"),
    Case("betas that are a text", "word.json", betas(CANARY), "bad_json"),
    Case("beta in a header that ends the line", "line.md", toml(r'betas = ["a\nb"]'), "bad_header"),
    Case("field beside the params", "beside.json", as_json({"params": request(), "evil": CANARY}), "bad_json"),
]
"""Attacks 9 and 13: what costs money, or reaches a header."""

TINY = b'{"messages":[1]}'

PROMPTED = [
    Case("19,000 requests", "many.json", content(b"[" + (TINY + b",") * 18_999 + TINY + b"]"), "too_large"),
    Case("6,000 requests on lines, one bad", "many.jsonl", content((TINY + b"\n") * 6_000 + b"1\n"), "bad_json"),
    Case(
        "250 requests on lines",
        "some.jsonl",
        lines(*(request(temperature=number / 250) for number in range(250))),
        ANSWERED,
        answers=250,
    ),
    Case(
        "60,000 requests on lines, one bad",
        "more.jsonl",
        content((TINY + b"\n") * 60_000 + b"1\n"),
        "bad_json",
        is_heavy=True,
    ),
]
"""Attack 6 again: small requests, in a lane that adds a system prompt of 20 KB to each."""

TYPES = [
    Case("Office", "letter.docx", content(b"PK\x03\x04" + CANARY.encode()), "unknown_type"),
    Case("program", "run.exe", content(b"MZ"), "unknown_type"),
    Case("script", "run.sh", content(f"#!/bin/sh\n{CANARY}"), "unknown_type"),
    Case("settings of ours", "config.toml", content("[api]\nbase_url = 'http://evil'"), "unknown_type"),
    Case("no extension", "README", prompt(), "unknown_type"),
    Case("archive that says text", "archive.txt.zip", content(b"PK"), "unknown_type"),
]


def same(words: str) -> Make:
    """Make a request with an id of its own."""
    return as_json({"custom_id": words, "params": request(metadata={"dropped": words})})


TWICE: Mapping[str, Sequence[Case]] = {
    "a prompt in two files": [
        Case("the one", "prompt.md", prompt("twice " + CANARY), ONCE),
        Case("the other", "prompt.txt", prompt("twice " + CANARY), ONCE),
    ],
    "a prompt with and without BOM": [
        Case("without", "mark.md", prompt("marked " + CANARY), ONCE),
        Case("with", "mark.txt", content(codecs.BOM_UTF8 + b"marked " + CANARY.encode()), ONCE),
    ],
    "a request in two files of other names": [
        Case("the one", "first.json", same("first"), ONCE),
        Case("the other", "second.json", same("first"), ONCE),
    ],
    "a request in a file and on a line": [
        Case("in a file", "third.json", same("third"), ONCE),
        Case(
            "on a line, spelled otherwise",
            "fourth.jsonl",
            lines({"params": request(metadata={"dropped": "third"}), "custom_id": "third"}),
            ONCE,
        ),
    ],
}
"""Attack 10: the files of each are one request."""

CASES: Mapping[str, Sequence[Case]] = {
    "odd files": ODD_FILES,
    "sizes": SIZES,
    "names": NAMES,
    "documents": JSON,
    "texts": TEXTS,
    "lines": LINES,
    "ids": IDS,
    "reach": REACH,
    "money": MONEY,
    "types": TYPES,
    "prompted": PROMPTED,
    "twice": [case for files in TWICE.values() for case in files],
}
"""By lane: each group is dropped into a folder of its own."""

FORGED = [
    Case("no name of ours", "evil.md", prompt(), "forged"),
    Case("a moment after all calendars", "ffffffffffff-0123456789abcdef~late.md", prompt(), "forged"),
    Case("a mark in capitals", "00000000000A-0123456789ABCDEF~a.md", prompt(), "forged"),
    Case("a mark without a name", "000000000001-0123456789abcdef~", prompt(), "forged"),
    Case("a name of ours, but a link", "000000000001-0000000000000001~link.md", link("{secret}"), "not_a_regular_file"),
    Case("a name of ours, but a pipe", "000000000001-0000000000000002~pipe.md", pipe, "not_a_regular_file"),
    Case("a link of a foreign name", "link", link("{secret}"), "not_a_regular_file"),
    Case("a long file of a foreign name", "long.jsonl", content((GOOD + b"\n") * 6_000), "forged"),
    Case("1 TiB of a foreign name", "sparse.jsonl", grown(2**40, GOOD), "too_large"),
    Case("a name that is no UTF-8", b"\xff\xfe", prompt(), "forged"),
    Case("a dot behind the mark", "000000000001-0000000000000003~.", prompt(), "unknown_type"),
    Case("two dots behind the mark", "000000000001-0000000000000004~..", prompt(), "unknown_type"),
    Case("a name of ours, unasked", "000000000001-0000000000000005~unasked.md", prompt(), ANSWERED),
]
"""Attack 20: what somebody put into processing/ by hand."""
