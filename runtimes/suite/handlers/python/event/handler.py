"""The event style's answers, by path."""

import base64


class Unwritable:
    pass


def handle(event, context):
    if context.trigger != "http":
        if isinstance(event, dict) and event.get("fail"):
            raise RuntimeError("boom in the event")
        return {"input": event, "trigger": context.trigger}
    path = event["path"]
    if path == "/event":
        return event
    if path == "/context":
        return {
            "id": context.aws_request_id,
            "name": context.function_name,
            "memory": context.memoryLimitInMb,
            "remaining": context.get_remaining_time_in_millis(),
        }
    if path == "/structured":
        return {"statusCode": 201, "headers": {"x-one": "1", "x-many": ["a", "b"]}, "cookies": ["c=3"], "body": "made"}
    if path == "/object-body":
        return {"statusCode": 200, "body": {"a": 1}}
    if path == "/base64":
        body = base64.b64encode(bytes([0, 255, 1])).decode()
        return {"statusCode": 200, "headers": {"content-type": "image/png"}, "body": body, "isBase64Encoded": True}
    if path == "/text":
        return "plain"
    if path == "/number":
        return 42
    if path == "/object":
        return {"a": [1, 2]}
    if path == "/nothing":
        return None
    if path == "/circular":
        value = {}
        value["self"] = value
        return value
    if path == "/bad-status":
        return {"statusCode": 99}
    if path == "/bad-header":
        return {"statusCode": 200, "headers": {"x-bad": "a\r\nset-cookie: stolen=1"}, "body": "x"}
    if path == "/throw":
        raise TypeError("boom in the handler")
    if path == "/length":
        return str(len(event["body"]))
    if path == "/hang":
        print("hanging")
        context.cancelled.wait()
        print("aborted")
        return "late"
    return {"statusCode": 404}
