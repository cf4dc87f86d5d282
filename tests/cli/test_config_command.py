"""`batchbox config`: the settings in effect."""

import json
import tomllib

from .bench import Home

SECRETIVE = '[defaults]\nmodel = "claude-opus-5-5"\n[api]\nproxy = "http://me:s3cret@proxy.example.com:3128"\n'


def test_it_prints_a_configuration_that_reads_back_as_the_same(home: Home) -> None:
    home.make()
    first = home.call("config", "--config", str(home.config))
    (home.path / "again.toml").write_text(first.stdout)

    second = home.call("config", "--config", "again.toml")

    assert tomllib.loads(first.stdout)["window"]["max_requests"] == 10_000
    assert tomllib.loads(second.stdout) == tomllib.loads(first.stdout)


def test_it_names_the_file_that_the_settings_come_from(home: Home) -> None:
    home.make()

    done = home.call("config", anew=True, BATCHBOX_CONFIG=str(home.config))

    assert done.stdout.startswith(f"# From {home.config}, ")


def test_it_shows_no_password(home: Home) -> None:
    home.make(SECRETIVE)

    done = home.call("config", "--config", str(home.config))
    as_json = home.call("config", "--json", "--config", str(home.config))

    assert "proxy.example.com" in done.stdout
    assert "s3cret" not in done.stdout + as_json.stdout


def test_the_json_object_has_the_file_and_the_settings(home: Home) -> None:
    home.make()

    done = home.call("config", "--json", "--config", str(home.config))

    told = json.loads(done.stdout)
    assert told.keys() == {"file", "settings"}
    assert told["file"] == str(home.config)
    assert told["settings"]["paths"]["root"] == str(home.root)
    assert told["settings"]["poll"]["max"] == "10m"
