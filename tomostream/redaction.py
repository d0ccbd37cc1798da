"""What of a URL may be shown, logged or written down?  Everything but passwords, tokens and signatures.

    https://anna:secret@host/t.mrc?X-Amz-Signature=abc&part=2   ->   https://***@host/t.mrc?***

1. What stands before `@` in a URL's host is masked whole: a user's name alone may be a token.
2. A query is masked whole: every service calls its signature by another name.

All messages (`errors`), all that the command line prints or logs, and all that results keep of their sources pass through here.
"""

from __future__ import annotations

import re

MASK = "***"
_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.\-]*:/{1,2})(?P<user>[^\s/'\"<>?#]*@)?(?P<rest>[^\s'\"<>?#]*)(?P<query>\?[^\s'\"<>]+)?")


def redacted(text: str) -> str:
    """Return a text with the secrets of all URLs in it masked, and with what is no UTF-8 spelled out.

    >>> redacted("see s3://key:word@bucket/a, https://host/t.mrc?X-Amz-Signature=abc; and https://host/plain")
    'see s3://***@bucket/a, https://host/t.mrc?*** and https://host/plain'
    """
    if not text.isascii():  # a file's name may be no UTF-8: its bytes are shown, so that every stream and file takes the text
        text = text.encode("utf-8", "backslashreplace").decode()
    return _URL.sub(_masked, text) if ":/" in text else text


def _masked(match: re.Match[str]) -> str:
    user = f"{MASK}@" if match["user"] else ""
    query = f"?{MASK}" if match["query"] else ""
    return f"{match['scheme']}{user}{match['rest']}{query}"
