"""`batchbox config`: the settings in effect."""

import json
import os
from pathlib import Path

import click

from batchbox.cli.settings import config_option, find_config, load_settings
from batchbox.logs import shown


@click.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help='Print {"file": …, "settings": {section: {key: value}}}.')
def config(config_file: Path | None, *, as_json: bool) -> None:
    """Show the settings in effect, without secrets.

    They are printed as a configuration file, complete with every default. Passwords in addresses are replaced by ***.
    """
    from batchbox.config import as_mapping, as_toml  # noqa: PLC0415 - see load_settings

    path = find_config(config_file, os.environ)
    settings = load_settings(path)
    if as_json:
        click.echo(json.dumps({"file": os.fsencode(path).decode(errors="replace"), "settings": as_mapping(settings)}))
        return
    click.echo(f"# From {shown(str(path))}, complete with every default.\n")
    click.echo(as_toml(settings), nl=False)
