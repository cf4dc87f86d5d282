"""What a failed check says: its own words, and the line that failed where it has none."""

import traceback


def said(error: BaseException) -> str:
    """Return one line about an error."""
    lines = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__}: {str(error) or (lines[-1].line if lines else '')}"
