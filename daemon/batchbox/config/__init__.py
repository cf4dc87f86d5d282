"""The configuration: text in, checked and frozen settings out. Reading the file is left to the caller.

In reading order: `quantities` and `addresses` know single values, `sections` the keys and their defaults, `settings`
the whole, `problems` the words for what is wrong, `checks` what values must agree on, `reading` the way through.
"""

from batchbox.config.checks import warnings
from batchbox.config.reading import parse_settings
from batchbox.config.sections import Window
from batchbox.config.settings import LaneSettings, Settings, as_mapping, as_toml

__all__ = ["LaneSettings", "Settings", "Window", "as_mapping", "as_toml", "parse_settings", "warnings"]
