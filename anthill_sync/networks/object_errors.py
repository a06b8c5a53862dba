"""What the errors of obstore mean. Pure.

Their texts quote URLs, request headers' contents and whole answers, so none of them is ever repeated: only the status,
the store's error code and a few known words are looked for, and what is said is said in our own words. For the same
reason a translated error has no foreign one as its cause.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from obstore import exceptions

from ..errors import (
    AccessDenied,
    AnthillError,
    ConfigurationError,
    NetworkNotFound,
    OutOfSpace,
    PermanentNetworkError,
    ProtocolError,
    TransientNetworkError,
)

FOREIGN = (exceptions.BaseError, OSError, NotImplementedError)  # what obstore raises

_STATUS = re.compile(r"status code: (\d{3})\b")
_CODE = re.compile(r"<Code>([A-Za-z0-9.]{1,64})</Code>")
_DEBUG = "\n\nDebug source:"  # what follows repeats what stands before it, and names the kinds of errors below
_KIND = re.compile(r"\bkind: (Connect|Timeout|Interrupted|Request|Decode)\b")
_METADATA = re.compile(r"latest/(?:api/token|meta-data)|metadata\.google|metadata/identity|computeMetadata")

_NO_CREDENTIALS = "no credentials: none in the settings, the environment or a profile, and no role of this machine gives any"
_CREDENTIALS = "check them in the environment, the profile or the objects.* settings"
_DENIED = {
    "RequestTimeTooSkewed": "this machine's clock is wrong: set it and try again",
    "ExpiredToken": "the session's token has expired: get new credentials",
    "TokenRefreshRequired": "the session's token has expired: get new credentials",
    "InvalidAccessKeyId": f"it does not know the access key: {_CREDENTIALS}",
    "SignatureDoesNotMatch": f"the secret key is wrong: {_CREDENTIALS}",
    "InvalidToken": f"the session token is wrong: {_CREDENTIALS}",
    "AuthenticationFailed": f"the credentials are wrong, or this machine's clock is: {_CREDENTIALS}",
}
_MISCONFIGURED = {
    "AuthorizationHeaderMalformed": "it expects another region: name the bucket's with ?region= in the URL",
    "PermanentRedirect": "the bucket is in another region: name it with ?region= in the URL",
    "IllegalLocationConstraintException": "the bucket is in another region: name it with ?region= in the URL",
    "InvalidBucketName": "it takes no bucket of this name",
}
_ABSENT = ("NoSuchBucket", "ContainerNotFound", "ContainerBeingDeleted", "AccountNotFound")
_FULL = ("QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "InsufficientCapacity")
_PASSING = ("RequestTimeout", "OperationAborted", "InternalError", "ServerBusy", "OperationTimedOut")
_DAMAGED = ("XAmzContentSHA256Mismatch", "BadDigest", "IncompleteBody", "Md5Mismatch")
_SLOW_DOWN = ("SlowDown", "SlowDownRead", "SlowDownWrite", "TooManyRequests", "ThrottlingException", "RequestLimitExceeded")


class Refused(Exception):
    """The condition of a write was not met: an object is there already, or not the one that was to be replaced."""


class Unsupported(ProtocolError):
    """The store does not have what was asked for: a condition, or metadata. Expected by the probe only."""


class Missing(Exception):
    """There is no such object."""


class OutsideRange(Exception):
    """The range begins beyond the object's end."""


def translate(error: Exception, step: str, where: str, pad: str | None = None) -> Exception:
    """What ``error``, met by ``step`` (``write``, ``read``, ...) on the bucket ``where``, means to us."""
    text = str(error)
    status, code = _found(_STATUS, text.partition(_DEBUG)[0]), _found(_CODE, text)
    kind: Callable[..., AnthillError]
    if _METADATA.search(text.partition("\n")[0]) and not status.startswith("5"):
        kind, why = AccessDenied, _NO_CREDENTIALS
    else:
        ordinary = _ordinary(error, text, status, code, where)
        if ordinary is not None:
            return ordinary
        kind, why = _failure(error, text, status, code)
    said = " ".join(each for each in (status, code) if each)
    return kind(f"{where}: cannot {step} an object: {why}{f' ({said})' if said else ''}", pad=pad)


def _found(pattern: re.Pattern[str], text: str) -> str:
    match = pattern.search(text)
    return match[1] if match else ""


def _ordinary(error: Exception, text: str, status: str, code: str, where: str) -> Exception | None:
    """What is no failure of the store, but an answer."""
    if isinstance(error, FileNotFoundError) and code not in _ABSENT:
        return Missing()
    if isinstance(error, (exceptions.AlreadyExistsError, exceptions.PreconditionError)):
        return Refused()
    if status == "501" or isinstance(error, (NotImplementedError, exceptions.NotSupportedError)):
        return Unsupported(f"{where} does not do what it did when this store was made (conditions or metadata of objects)")
    local = isinstance(error, exceptions.GenericError) and not status and re.search(r"\brange\b", text)
    return OutsideRange() if status == "416" or local else None


def _failure(error: Exception, text: str, status: str, code: str) -> tuple[Callable[..., AnthillError], str]:
    """The class of error, and why in words."""
    for known in (_by_code(code), _by_status(error, status), _by_kind(text)):
        if known is not None:
            return known
    return PermanentNetworkError, "the store refuses, or the library does not understand its answer"


def _by_code(code: str) -> tuple[Callable[..., AnthillError], str] | None:
    if code in _DENIED:
        return AccessDenied, _DENIED[code]
    if code in _MISCONFIGURED:
        return ConfigurationError, _MISCONFIGURED[code]
    if code in _ABSENT:
        return NetworkNotFound, "there is no such bucket: make it first"
    if code in _FULL:
        return OutOfSpace, "it has no room left"
    if code in _DAMAGED:
        return TransientNetworkError, "the body was damaged on the way"
    if code in _SLOW_DOWN:
        return _slow_down, "it asks for patience"
    return (TransientNetworkError, "it failed") if code in _PASSING else None


def _by_status(error: Exception, status: str) -> tuple[Callable[..., AnthillError], str] | None:
    if status in ("429", "503"):
        return _slow_down, "it asks for patience"
    if status in ("408", "500", "502", "504"):
        return TransientNetworkError, "it failed"
    if status in ("401", "403") or isinstance(
        error, (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError, PermissionError)
    ):
        return AccessDenied, f"not allowed: {_CREDENTIALS}, and what they may do"
    if status in ("507", "413"):
        return OutOfSpace, "it takes no more, or nothing as large"
    return None


def _by_kind(text: str) -> tuple[Callable[..., AnthillError], str] | None:
    """Failures without an answer."""
    if "InvalidCertificate" in text or "CertificateError" in text:
        return ProtocolError, "its certificate is refused; a private authority is named by the setting ca_file"
    if "InvalidMessage" in text or "InvalidContentType" in text:
        return ProtocolError, "it does not speak TLS: is the endpoint's port right?"
    if "redirect" in text and "without LOCATION" in text:
        return ConfigurationError, "it redirects: name the bucket's own ?endpoint= or ?region= in the URL"
    if "dns error" in text:
        return TransientNetworkError, "the name of its host is not found"
    if "ConnectionRefused" in text:
        return TransientNetworkError, "connection refused"
    kind = _found(_KIND, text)
    words = {"Timeout": "timed out", "Connect": "no connection"}
    return (TransientNetworkError, words.get(kind, "the connection ended")) if kind else None


def _slow_down(message: str, pad: str | None) -> TransientNetworkError:
    return TransientNetworkError(message, slow_down=True, pad=pad)
