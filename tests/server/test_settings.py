"""Settings: a typo stops the start, and the help cannot miss a setting."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from server.__main__ import main, parser
from server.setting_values import PREFIX
from server.settings import Settings


def test_defaults_are_within_their_own_ranges() -> None:
    """A server without any environment starts."""
    assert Settings.from_env({}).http_port == 8000


def test_values_are_read_by_their_type() -> None:
    """Text becomes what the field is."""
    env = {
        "VITRINE_HTTP_PORT": "9000",
        "VITRINE_FALLBACK": "off",
        "VITRINE_DRAIN_S": "2.5",
        "VITRINE_REPOSITORY": "/data/models",
        "VITRINE_API_KEYS": "one, two",
        "PATH": "/bin",
    }

    settings = Settings.from_env(env)

    assert (settings.http_port, settings.fallback, settings.drain_s) == (9000, False, 2.5)
    assert (settings.repository, settings.api_keys) == (Path("/data/models"), ("one", "two"))


def test_an_unknown_name_lists_near_ones() -> None:
    """A misspelt setting must not be one that silently keeps its default."""
    with pytest.raises(
        ValueError, match=r"VITRINE_HTTP_PROT is not a setting; did you mean .*VITRINE_HTTP_PORT"
    ):
        Settings.from_env({"VITRINE_HTTP_PROT": "1"})


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("HTTP_PORT", "70000", "0 .. 65535"),
        ("HTTP_PORT", "http", "cannot read 'http' as int"),
        ("DRAIN_S", "nan", "0 .. 3600"),
        ("DRAIN_S", "inf", "0 .. 3600"),
        ("FALLBACK", "maybe", "not one of true"),
        ("ENGINE", "cuda", "one of auto"),
        ("ACCESS_LOG", "2", "0 .. 1"),
        ("API_KEYS_FILE", "/nowhere/keys", "cannot read /nowhere/keys"),
        ("TLS_CERT", "cert.pem", "set both or neither"),
        ("MAX_IN_FLIGHT", "10", "could never be admitted"),
        ("MAX_DEADLINE_MS", "50", "more than VITRINE_MAX_DEADLINE_MS"),
    ],
)
def test_a_wrong_value_is_named_with_its_limit(name: str, value: str, says: str) -> None:
    """The message holds what an operator needs to mend it."""
    with pytest.raises(ValueError, match=says):
        Settings.from_env({PREFIX + name: value})


def test_keys_come_from_a_file_too(tmp_path: Path) -> None:
    """One key a line; comments and blank lines are not keys."""
    path = tmp_path / "keys"
    path.write_text("# the shop\nalpha\n\nbeta\n")

    settings = Settings.from_env({"VITRINE_API_KEYS_FILE": str(path), "VITRINE_API_KEYS": "gamma"})

    assert settings.api_keys == ("gamma", "alpha", "beta")


def test_a_key_file_without_a_key_is_refused(tmp_path: Path) -> None:
    """An empty file must not mean an open server."""
    (tmp_path / "keys").write_text("# none yet\n")

    with pytest.raises(ValueError, match="holds no key"):
        Settings.from_env({"VITRINE_API_KEYS_FILE": str(tmp_path / "keys")})


def test_keys_are_not_shown() -> None:
    """Settings may be logged; keys may not."""
    assert "hunter2" not in repr(Settings.from_env({"VITRINE_API_KEYS": "hunter2"}))


def test_the_help_lists_every_setting() -> None:
    """A stranger finds every knob in ``--help``."""
    text = parser().format_help()

    for field in dataclasses.fields(Settings):
        assert PREFIX + field.name.upper() in text


def test_a_wrong_environment_ends_with_a_sentence_and_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    """No traceback for an operator's typo."""
    status = main([], env={"VITRINE_HTP_PORT": "1"})

    assert status == 2
    assert "VITRINE_HTP_PORT is not a setting" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", ",", " , "])
def test_an_empty_secret_does_not_open_the_server(text: str) -> None:
    """A key setting that a deployment left empty stops the start instead of letting everybody in."""
    with pytest.raises(ValueError, match="holds no key"):
        Settings.from_env({"VITRINE_API_KEYS": text})
