"""Settings: what is written is understood or refused with its name, its source and what it takes."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anthill_sync.errors import ConfigurationError, InvalidArgument
from anthill_sync.settings import (
    MAX_PAD_SIZE,
    MIN_PAD_SIZE,
    SETTING_FIELDS,
    Settings,
    check_pad_size,
    environment_name,
    parse_duration,
    parse_setting,
    parse_size,
    resolve,
)

DEFAULTS = {
    "attempts": 5,
    "retry_seconds": 300,
    "backoff_base": 0.25,
    "backoff_cap": 30,
    "connect_timeout": 10,
    "read_timeout": 60,
    "deadline_base": 60,
    "deadline_rate": 64 * 1024,
    "reserve_threads": 20,
    "upload_threads": 20,
    "download_threads": 20,
    "rewrite_limit": 256 * 1024,
    "confirm": "paid",
    "limit_upload": None,
    "limit_download": None,
    "lock_wait": None,
    "proxy": None,
    "ca_file": None,
    "allow_plain_http": False,
    "passphrase_file": None,
    "passphrase_command": None,
}


# -- durations


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("26h", 93600), ("8d", 691200), ("1h30m", 5400), (" 2H ", 7200), ("0s", 0)]
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "26", "h", "1.5h", "-1h", "1h 30m", "1w", "1hour", "9999999999s", "٣h"])
def test_what_is_no_duration_is_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(InvalidArgument, match="26h"):
        parse_duration(text)


# -- sizes


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("4096", 4096),
        (4096, 4096),
        ("4MiB", 4 << 20),
        ("4 MiB", 4 << 20),
        (" 512KiB ", 512 << 10),
        ("1GiB", 1 << 30),
        ("2tib", 2 << 40),
        ("1k", 1024),
        ("1m", 1 << 20),
        ("7b", 7),
        ("1kB", 1000),
        ("3MB", 3_000_000),
    ],
)
def test_a_size_is_bytes(text: Any, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MiB", "-1", "1.5MiB", "4MiBs", "4XiB", "0x10", "1e6", "9" * 19, "١", "1\n2", None])
def test_what_is_no_size_is_refused_with_an_example(text: Any) -> None:
    with pytest.raises(InvalidArgument, match="512KiB") as caught:
        parse_size(text)
    assert caught.value.exit_code == 64


@given(st.text(max_size=8))
def test_no_text_is_anything_but_a_size_or_an_invalid_argument(text: str) -> None:
    try:
        size = parse_size(text)
    except InvalidArgument:
        return
    assert size >= 0


@pytest.mark.parametrize("size", [MIN_PAD_SIZE, 4 << 20, MAX_PAD_SIZE])
def test_a_pad_size_within_the_bounds_is_taken(size: int) -> None:
    assert check_pad_size(size) == size


@pytest.mark.parametrize("size", [0, MIN_PAD_SIZE - 1, MAX_PAD_SIZE + 1])
def test_a_pad_size_beyond_the_bounds_is_refused(size: int) -> None:
    with pytest.raises(InvalidArgument, match="16KiB"):
        check_pad_size(size)


# -- one setting


def test_defaults_are_those_that_are_documented() -> None:
    settings = Settings()
    assert {name: getattr(settings, name) for name in SETTING_FIELDS} == DEFAULTS
    assert settings.objects == {}


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("attempts", "7", 7),
        ("retry_seconds", "0", 0.0),
        ("backoff_base", "0.5", 0.5),
        ("deadline_rate", "1MiB/s", 1 << 20),
        ("deadline_rate", "65536", 65536),
        ("rewrite_limit", "0", 0),
        ("upload_threads", "1", 1),
        ("confirm", "always", "always"),
        ("lock_wait", "1.5", 1.5),
        ("limit_upload", "08:00,512KiB 23:00,OFF", "08:00,524288 23:00,off"),
        ("limit_download", "1MiB", "1048576"),
        ("allow_plain_http", "yes", True),
        ("allow_plain_http", "OFF", False),
        ("allow_plain_http", True, True),
        ("proxy", "http://proxy:3128", "http://proxy:3128"),
    ],
)
def test_a_setting_is_parsed_to_its_type(name: str, text: Any, value: Any) -> None:
    parsed = parse_setting(name, text, "the options")
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("attempts", "0"),
        ("attempts", "1.5"),
        ("attempts", "-1"),
        ("attempts", "9" * 10),
        ("retry_seconds", "nan"),
        ("retry_seconds", "inf"),
        ("retry_seconds", "-1"),
        ("retry_seconds", "soon"),
        ("deadline_rate", "fast"),
        ("confirm", "sometimes"),
        ("allow_plain_http", "maybe"),
        ("upload_threads", ""),
    ],
)
def test_a_wrong_value_names_setting_and_source(name: str, text: str) -> None:
    with pytest.raises(ConfigurationError, match=f"setting {name} in config.json") as caught:
        parse_setting(name, text, "config.json")
    assert caught.value.exit_code == 78


@pytest.mark.parametrize("name", sorted(SETTING_FIELDS.keys() - {"proxy", "ca_file", "passphrase_file", "passphrase_command"}))
@pytest.mark.parametrize("value", [None, [], {}])
def test_a_value_of_the_wrong_type_is_a_configuration_error_too(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=name):
        parse_setting(name, value, "config.json")


def test_an_unknown_setting_names_those_that_are_known() -> None:
    with pytest.raises(ConfigurationError, match=r"unknown setting 'uploads' in config.json; known: .*upload_threads"):
        parse_setting("uploads", "1", "config.json")
    with pytest.raises(ConfigurationError):
        Settings().with_values({"objects.": "x"}, "the options")


def test_every_setting_says_what_it_is() -> None:
    assert all(each.metadata["doc"] for each in SETTING_FIELDS.values())


# -- precedence


def test_options_win_over_the_environment_over_the_file_over_defaults() -> None:
    environ = {"ANTHILL_ATTEMPTS": "3", "ANTHILL_UPLOAD_THREADS": "4", "ANTHILL_HOME": "/x", "HOME": "/y"}
    stored = {"attempts": 2, "upload_threads": 2, "reserve_threads": 2}
    settings = resolve(stored, {"attempts": "9"}, environ)
    assert (settings.attempts, settings.upload_threads, settings.reserve_threads, settings.download_threads) == (9, 4, 2, 20)


def test_the_real_environment_is_used_when_none_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHILL_LOCK_WAIT", "12")
    assert resolve({}).lock_wait == 12.0


@pytest.mark.parametrize("name", SETTING_FIELDS)
def test_every_setting_has_its_environment_name(name: str) -> None:
    assert environment_name(name) == f"ANTHILL_{name.upper()}"
    default = DEFAULTS[name]
    text = {"confirm": "never", "allow_plain_http": "true"}.get(name, "1" if default is None or default != 1 else "2")
    assert getattr(resolve({}, None, {environment_name(name): text}), name) != default


def test_an_error_says_where_the_wrong_value_stands() -> None:
    with pytest.raises(ConfigurationError, match="in the environment"):
        resolve({}, None, {"ANTHILL_ATTEMPTS": "x"})
    with pytest.raises(ConfigurationError, match=r"in config\.json"):
        resolve({"attempts": "x"}, None, {})
    with pytest.raises(ConfigurationError, match="in the options"):
        resolve({}, {"attempts": "x"}, {})


def test_options_of_the_object_store_are_passed_on_and_merged() -> None:
    settings = resolve({"objects.region": "eu", "objects.timeout": 5}, {"objects.region": "us"}, {})
    assert settings.objects == {"region": "us", "timeout": "5"}


def test_settings_do_not_change() -> None:
    settings = Settings()
    with pytest.raises(FrozenInstanceError):
        settings.attempts = 1  # type: ignore[misc]
    assert settings.with_values({"attempts": 1}, "the options").attempts == 1
    assert settings.attempts == 5
