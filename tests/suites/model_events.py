"""What may happen, how often, and with what: one table, from which the machine draws."""

from collections.abc import Mapping

from hypothesis import strategies as st

from batchbox.api import TroubleKind
from pipeline.fake_api import Reply

from .model_workspace import Fate

LANES = (None, None, "alpha", "beta")
EXPLICIT_IDS = ("one", "two", "Two")
BAD_FILES = (("bad.json", b"{]"), ("empty.md", b""), ("strange.xyz", b"what"), ("latin.txt", b"\xe9t\xe9"))
LIVES: tuple[tuple[Fate, ...], ...] = (
    (),
    (Fate.SHORT,),
    (Fate.INVALID,),
    (Fate.TRANSIENT,),
    (Fate.EXPIRED, Fate.TRANSIENT),
    (Fate.TRANSIENT, Fate.EXPIRED, Fate.TRANSIENT, Fate.TRANSIENT),
    (Fate.CREDIT,),
    (Fate.CREDIT, Fate.CREDIT, Fate.TRANSIENT),
    (Fate.TRANSIENT, Fate.CREDIT, Fate.TRANSIENT, Fate.CREDIT, Fate.TRANSIENT),
)
"""How purchases of one request fare, one after the other."""

indexes = st.integers(0, 7)
lanes = st.sampled_from(LANES)
fates = st.lists(st.sampled_from(LIVES), min_size=1, max_size=4)
rounds = st.integers(1, 8)
ids = st.lists(st.sampled_from((None, None, *EXPLICIT_IDS)), min_size=1, max_size=5)

EVENTS: Mapping[str, tuple[int, Mapping[str, st.SearchStrategy[object]]]] = {
    "work": (6, {"rounds": rounds}),
    "work_and_end": (4, {"rounds": rounds}),
    "crash": (8, {"point": st.integers(1, 60)}),
    "stop": (2, {"point": st.integers(1, 40)}),
    "restart": (1, {}),
    "drop_text": (5, {"lane": lanes, "first": fates, "is_poison": st.booleans()}),
    "drop_many": (10, {"lane": lanes, "given": ids, "planned": fates, "is_lines": st.booleans()}),
    "drop_bad": (1, {"lane": lanes, "which": st.sampled_from(BAD_FILES)}),
    "drop_again": (7, {"index": indexes}),
    "drop_other": (2, {"index": indexes}),
    "cancel_by_file": (4, {"index": indexes, "by_id": st.booleans()}),
    "delete": (1, {"index": indexes}),
    "drop_slowly": (2, {"lane": lanes}),
    "go_on_writing": (5, {"index": indexes, "taking": st.integers(0, 6)}),
    "reply": (5, {"replies": st.lists(st.sampled_from(Reply), min_size=1, max_size=3)}),
    "lose_reply": (3, {"replies": st.sampled_from([Reply.LOSE, Reply.NEVER_ARRIVED])}),
    "trouble": (
        1,
        {
            "kinds": st.lists(st.sampled_from(TroubleKind), min_size=1, max_size=4),
            "wait": st.sampled_from([None, 0.0, 7.0]),
        },
    ),
    "lag": (2, {}),
    "lag_for_long": (1, {}),
    "show_all": (1, {}),
    "other_program": (2, {"count": st.integers(1, 5), "has_ended": st.booleans(), "is_gone": st.booleans()}),
    "end_all": (2, {}),
    "end_one": (4, {"index": indexes, "how": st.sampled_from(["whole", "repeated", "foreign", "garbage", "short"])}),
    "cancel_in_console": (2, {"index": indexes}),
    "delete_in_console": (1, {"index": indexes}),
    "hide_results": (1, {"index": indexes}),
    "bring_back": (1, {}),
    "cut": (2, {"counts": st.lists(st.integers(0, 3), min_size=1, max_size=4)}),
    "break_off": (1, {"count": st.integers(0, 12)}),
    "refuse_all": (1, {"rounds": rounds}),
    "rotate_key": (2, {}),
    "lose_reply_and_key": (1, {"rounds": rounds}),
    "enter_other_workspace": (2, {"rounds": rounds, "seconds": st.sampled_from([0.0, 70.0]), "ends": st.booleans()}),
    "decide": (1, {}),
    "take_root_away": (1, {"rounds": rounds, "leave_folder": st.booleans()}),
    "block": (
        1,
        {
            "top": st.sampled_from(["outbox", "rejected", "done"]),
            "lane": st.sampled_from(["alpha", "beta"]),
            "rounds": rounds,
        },
    ),
    "fill_disk": (1, {"rounds": rounds}),
    "wait": (2, {"seconds": st.sampled_from([0.3, 2.0, 20.0, 70.0, 700.0, 4000.0])}),
    "wait_a_month": (1, {}),
    "set_clock": (1, {"seconds": st.sampled_from([-86_400.0, -3600.0, -2.0, 2.0, 3600.0, 86_400.0])}),
}
"""By the machine's method: how often it happens, compared with the others, and what it is given."""


@st.composite
def events(draw: st.DrawFn) -> tuple[str, dict[str, object]]:
    """Draw what happens next. All of it is one rule: hypothesis leaves out half of many rules in every example."""
    name = draw(st.sampled_from([name for name, (weight, _) in EVENTS.items() for _ in range(weight)]))
    return name, {argument: draw(strategy) for argument, strategy in EVENTS[name][1].items()}
