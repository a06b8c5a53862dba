"""The signature of a request without a body, version 4 as S3 wants it: for the one request that makes the bucket."""

from __future__ import annotations

import hashlib
import hmac
import time

_NAMES = "host;x-amz-content-sha256;x-amz-date"
_EMPTY = hashlib.sha256(b"").hexdigest()


def signed_headers(method: str, host: str, path: str, *, user: str, password: str, region: str) -> dict[str, str]:
    """Headers that allow the request now."""
    now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    scope = f"{now[:8]}/{region}/s3/aws4_request"
    request = f"{method}\n{path}\n\nhost:{host}\nx-amz-content-sha256:{_EMPTY}\nx-amz-date:{now}\n\n{_NAMES}\n{_EMPTY}"
    text = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    key = f"AWS4{password}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    credential = f"AWS4-HMAC-SHA256 Credential={user}/{scope}, SignedHeaders={_NAMES}, Signature={signature}"
    return {"Host": host, "x-amz-date": now, "x-amz-content-sha256": _EMPTY, "Authorization": credential}
