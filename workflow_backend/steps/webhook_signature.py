"""The signature of a webhook message.

Source: Standard Webhooks, specification 1.0.0, sections "Webhook metadata" and "Signature scheme"
(symmetric, `v1`): HMAC-SHA256 over `id.timestamp.body`, base64; a secret that begins with `whsec_`
is base64 of the key, any other is the key itself.
"""

import base64
import binascii
import hashlib
import hmac

PREFIX = "whsec_"


def signed_headers(message_id: str, timestamp: int, body: bytes, secret: str) -> dict[str, str]:
    """The headers that tell who sent the body, and when: `timestamp` is in Unix seconds.

    Raises:
        ValueError: The secret begins with `whsec_`, but what follows is no base64.
    """
    signed = b".".join((message_id.encode(), str(timestamp).encode(), body))
    digest = hmac.new(_key_of(secret), signed, hashlib.sha256).digest()
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }


def _key_of(secret: str) -> bytes:
    if not secret.startswith(PREFIX):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        raise ValueError(
            "the secret that signs the message begins with `whsec_`, but is no base64 after that"
        ) from None
