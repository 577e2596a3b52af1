"""Counts the words of the text that is posted."""

import base64
import json
import re
from collections import Counter


def handle(event, context):
    body = event.get("body") or ""
    if event.get("isBase64Encoded"):
        body = base64.b64decode(body).decode("utf-8", "replace")
    words = re.findall(r"[^\W\d_]+", body.lower())
    print(f"{len(words)} words")
    return {
        "statusCode": 200,
        "headers": {"content-type": "application/json"},
        "body": json.dumps({"words": len(words), "most": Counter(words).most_common(5)}),
    }
