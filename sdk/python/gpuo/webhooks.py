"""Webhooks, verified as Standard Webhooks 1.0.0 has it: https://www.standardwebhooks.com."""

import base64
import hashlib
import hmac
import json
import time
from typing import Any, Dict, Mapping, Optional, Union

from ._errors import GpuoError

TOLERANCE = 300.0


class WebhookError(GpuoError):
    """It is not from the daemon, too old, or was changed on the way."""


def verify_webhook(
    body: Union[bytes, str],
    headers: Mapping[str, str],
    secret: str,
    *,
    tolerance: float = TOLERANCE,
    now: Optional[float] = None,
) -> Dict[str, Any]:
    """The webhook's content, when it is the daemon's. `body` is what arrived, byte by byte: not parsed and written anew."""
    fields = {name.lower(): value for name, value in headers.items()}
    try:
        message, stamp, signatures = (fields[f"webhook-{name}"] for name in ("id", "timestamp", "signature"))
    except KeyError as error:
        raise WebhookError(f"the header {error.args[0]} is missing") from None
    content = body.encode() if isinstance(body, str) else body
    if not stamp.isdigit() or abs((time.time() if now is None else now) - int(stamp)) > tolerance:
        raise WebhookError("its time is too far from ours")
    key = _key(secret)
    digest = hmac.new(key, f"{message}.{stamp}.".encode() + content, hashlib.sha256).digest()
    expected = base64.b64encode(digest).decode()
    given = [one.partition(",") for one in signatures.split(" ")]
    # All are looked at: the time tells nothing.
    matches = [hmac.compare_digest(expected.encode(), value.encode()) for version, _, value in given if version == "v1"]
    if not any(matches):
        raise WebhookError("no signature fits")
    return json.loads(content)


def _key(secret: str) -> bytes:
    """What follows `whsec_` is base64; any other text is the key itself."""
    if not secret.startswith("whsec_"):
        return secret.encode()
    encoded = secret[len("whsec_") :]
    try:
        return base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except ValueError:
        raise WebhookError("the secret begins with whsec_, but what follows is not base64") from None
