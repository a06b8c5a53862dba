"""Credentials from AWS profiles: the files ``~/.aws/credentials`` and ``~/.aws/config``, which obstore does not read.

Only keys that stand there are used. A profile that names a role, single sign-on or a program says how to get keys from
it; that is left to the ``aws`` command.
"""

from __future__ import annotations

import configparser
import os
from collections.abc import Mapping
from pathlib import Path

from ..errors import ConfigurationError

_NAMES = {
    "aws_access_key_id": "access_key_id",
    "aws_secret_access_key": "secret_access_key",
    "aws_session_token": "session_token",
    "region": "region",
    "endpoint_url": "endpoint",
}
_FROM_ENVIRONMENT = {"region": ("AWS_REGION", "AWS_DEFAULT_REGION"), "endpoint": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")}


def profile_options(named: str | None, environ: Mapping[str, str]) -> dict[str, str]:
    """What the profile ``named`` in the settings, else the one the environment names, else ``default`` has for obstore;
    nothing where keys or an identity stand in the environment. ``ConfigurationError`` for one that cannot be used."""
    if named is None and ("AWS_ACCESS_KEY_ID" in environ or "AWS_WEB_IDENTITY_TOKEN_FILE" in environ):
        return {}
    asked = named or environ.get("AWS_PROFILE") or environ.get("AWS_DEFAULT_PROFILE")
    fields = _fields(asked or "default", environ)
    if asked and not ("aws_access_key_id" in fields and "aws_secret_access_key" in fields):
        raise ConfigurationError(
            f"the AWS profile {asked!r} holds no keys; where it names a role, single sign-on or a program, put keys into the "
            f'environment: eval "$(aws configure export-credentials --profile {asked} --format env)"'
            if fields
            else f"there is no AWS profile {asked!r} in {_path('config', environ)} or {_path('credentials', environ)}"
        )
    options = {ours: fields[theirs] for theirs, ours in _NAMES.items() if theirs in fields}
    return {name: text for name, text in options.items() if not _overridden(name, environ)}


def _overridden(name: str, environ: Mapping[str, str]) -> bool:
    return any(environ.get(variable) for variable in _FROM_ENVIRONMENT.get(name, ()))


def _fields(name: str, environ: Mapping[str, str]) -> dict[str, str]:
    """What both files say of a profile; ``credentials`` has the last word."""
    section = name if name == "default" else f"profile {name}"
    return {**_section(_path("config", environ), section), **_section(_path("credentials", environ), name)}


def _path(kind: str, environ: Mapping[str, str]) -> Path:
    variable = {"config": "AWS_CONFIG_FILE", "credentials": "AWS_SHARED_CREDENTIALS_FILE"}[kind]
    return Path(environ.get(variable) or Path(environ.get("HOME") or os.path.expanduser("~"), ".aws", kind)).expanduser()


def _section(path: Path, name: str) -> dict[str, str]:
    """One section of a file; empty where there is none. No error shows a line of it: that may be a key."""
    parser = configparser.RawConfigParser(strict=False, default_section="-")
    why = ""
    try:
        parser.read_string(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        why = error.strerror or "cannot be read"
    except (configparser.Error, UnicodeError):
        why = "not in the format of AWS profiles"
    if why:
        raise ConfigurationError(f"{path}: {why}")
    return {key: text.strip() for key, text in parser.items(name)} if parser.has_section(name) else {}
