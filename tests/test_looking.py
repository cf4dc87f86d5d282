from batchbox.intake.looking import GROUP_CHECKED_BYTES, GROUP_FILES, groups


def test_files_are_grouped_by_number_and_by_what_has_to_be_read_of_them() -> None:
    """Whoever else needs the root waits no longer than for one group."""
    half = GROUP_CHECKED_BYTES // 2
    sizes = {"a": half, "b": half, "c": 1, "large": 3 * half, "d": half, "e": 0}
    small = [str(number) for number in range(GROUP_FILES + 1)]

    by_size = list(groups(list(sizes), sizes.__getitem__))
    by_number = list(groups(small, lambda _: 0))

    assert by_size == [["a", "b"], ["c"], ["large"], ["d", "e"]]
    assert [len(group) for group in by_number] == [GROUP_FILES, 1]
    assert list(groups([], lambda _: 0)) == []
