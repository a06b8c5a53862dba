"""From a URL and settings to obstore's store: endpoint, credentials, time-outs, certificates, proxies.

Time-outs bound each request as a whole, body included; obstore's own retries are off.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from obstore import exceptions
from obstore.store import AzureStore, GCSStore, ObjectStore, S3Store

from ..errors import ConfigurationError
from ..settings import Settings
from .local import is_loopback
from .object_profiles import profile_options
from .object_urls import ObjectUrl

_STORES: dict[str, Any] = {"s3": S3Store, "gs": GCSStore, "az": AzureStore}
_ENDPOINTS = {
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
    "gs": ("GOOGLE_BASE_URL",),
    "az": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
}
_NAMES = {"gs": {"endpoint": "base_url"}, "az": {"account": "account_name"}}  # options of a URL as obstore calls them
_DEFAULTS = {"s3": {"disable_bulk_delete": "true"}}  # which not every server of that interface knows
_NEWEST = {"x-newest": "true"}  # Swift asks all replicas then; nobody else knows it, and it is not signed
_IN_THE_URL = ("bucket", "bucket_name", "container_name")
_UNKNOWN_KEY = re.compile(r"Configuration key: '([a-z0-9_.]{1,64})'")


def open_store(url: ObjectUrl, settings: Settings, *, pad_size: int, connections: int, newest: bool) -> ObjectStore:
    """The store at ``url`` for objects of at most ``pad_size`` bytes. Nothing is contacted. ``newest``: of replicas that
    differ the newest has to answer. ``ConfigurationError`` names the setting that is wrong, never its value."""
    config = _config(url, settings)
    client = _client_options(_endpoint(url.scheme, config), settings, pad_size, connections)
    if newest:
        client["default_headers"] = _NEWEST
    retries = {"max_retries": 0, "retry_timeout": timedelta(seconds=1)}
    try:
        store: ObjectStore = _STORES[url.scheme](url.bucket, config=config, client_options=client, retry_config=retries)
    except (exceptions.BaseError, ValueError, TypeError) as error:
        why = _why(str(error))
    else:
        return store
    raise ConfigurationError(f"{url.scheme}://{url.bucket}: {why}")


def _config(url: ObjectUrl, settings: Settings) -> dict[str, str]:
    """Settings over what a profile gives, and the URL over both; the environment, below all, obstore reads itself."""
    chosen = {**_DEFAULTS.get(url.scheme, {}), **settings.objects}
    for name in _IN_THE_URL:
        if name in chosen:
            raise ConfigurationError(f"objects.{name} is no setting: the network URL names it")
    profile = chosen.pop("profile", None)
    if url.scheme == "s3" and not {"access_key_id", "aws_access_key_id", "skip_signature"} & set(chosen):
        chosen = {**profile_options(profile, os.environ), **chosen}
    return {**chosen, **{_NAMES.get(url.scheme, {}).get(name, name): text for name, text in url.options.items()}}


def _endpoint(scheme: str, config: Mapping[str, str]) -> str:
    """The endpoint in force, or nothing: the provider's own, which is https."""
    from_environment = (os.environ.get(name, "") for name in _ENDPOINTS[scheme])
    named = config.get("endpoint") or config.get("base_url") or config.get("aws_endpoint_url_s3")
    return named or next(filter(None, from_environment), "")


def _client_options(endpoint: str, settings: Settings, pad_size: int, connections: int) -> dict[str, Any]:
    plain = endpoint.lower().startswith("http://")
    host = urlsplit(endpoint).hostname or ""
    if plain and not settings.allow_plain_http and not is_loopback(host):
        raise ConfigurationError(
            f"http:// to another machine ({host}) is neither private nor protected against changes on the way: use an https:// "
            "endpoint, or allow it with the setting allow_plain_http=true"
        )
    deadline = settings.deadline_base + pad_size / settings.deadline_rate
    return {
        "allow_http": plain,
        "connect_timeout": timedelta(seconds=settings.connect_timeout or deadline),
        "read_timeout": timedelta(seconds=settings.read_timeout or deadline),
        "timeout": timedelta(seconds=deadline),
        "pool_max_idle_per_host": str(connections),
        "user_agent": "anthill",
        **_authorities(settings),
        **_proxy(host, settings),
    }


def _authorities(settings: Settings) -> dict[str, Any]:
    """A private authority, beside the public ones."""
    if not settings.ca_file:
        return {}
    try:
        return {"root_certificate": Path(settings.ca_file).read_bytes()}
    except OSError as error:
        raise ConfigurationError(f"the file of certificate authorities {settings.ca_file}: {error.strerror}") from error


def _proxy(host: str, settings: Settings) -> dict[str, str]:
    """The proxy of the settings; the environment's the library finds, but nobody but us reaches our own loopback."""
    if settings.proxy:
        return {"proxy_url": settings.proxy}
    if not is_loopback(host):
        return {}
    named = next(filter(None, (os.environ.get(name) for name in ("http_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"))), None)
    return {"proxy_url": named, "proxy_excludes": host} if named else {}


def _why(text: str) -> str:
    """What is wrong, without the library's words: they may hold a key."""
    unknown = _UNKNOWN_KEY.search(text)
    if unknown:
        return f"objects.{unknown[1]} is no setting of this store"
    if "root_certificate" in text:
        return "the file of the setting ca_file holds no certificate (PEM)"
    if "MissingAccount" in text:
        return "which account? Name it with ?account= in the URL, objects.account_name, or AZURE_STORAGE_ACCOUNT_NAME"
    return "a setting objects.* or a variable of the environment has a value that is not understood (credentials, endpoint, ...)"
