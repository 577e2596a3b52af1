"""Handlers of the event style: handle(event, context), with the input and the answers of AWS Lambda and Scaleway."""

import json
import os
import time

from ebb_http import TooLarge

TEXT_TYPES = ("text/", "application/json", "application/xml", "application/javascript", "application/x-www-form-urlencoded",
              "application/graphql", "application/x-ndjson", "application/yaml", "application/toml")  # fmt: skip


class BadAnswer(Exception):
    """The handler answered something that cannot be sent; no stack would help its author."""


class Context:
    """What a handler learns of its surroundings; the names of Lambda, and those of Scaleway."""

    def __init__(self, invocation, trigger, memory_mb):
        self._invocation = invocation
        self.aws_request_id = invocation.id
        self.function_name = self.functionName = os.environ.get("EBB_WORKLOAD", "")
        self.function_version = self.functionVersion = os.environ.get("EBB_REVISION", "")
        self.memory_limit_in_mb = self.memoryLimitInMb = memory_mb
        self.trigger = trigger

    def get_remaining_time_in_millis(self):
        return self._invocation.remaining_ms()

    @property
    def cancelled(self):
        """A threading.Event: set when the client has gone."""
        return self._invocation.cancelled()


def text_of(request, body):
    kind = request.header("content-type")
    if kind is not None:
        plain = kind.partition(";")[0].strip().lower()
        if not (plain.startswith(TEXT_TYPES) or plain.endswith(("+json", "+xml"))):
            return None
    if request.header("content-encoding") is not None:
        return None
    try:
        return body.decode()
    except UnicodeDecodeError:
        return None


def base64(body):
    from base64 import b64encode

    return b64encode(body).decode()


def http_event(request, invocation, body):
    path, _, query = request.target.partition("?")
    headers = {}
    cookies = []
    for name, value in request.headers:
        if name == "cookie":
            cookies += [part.strip() for part in value.split(";") if part.strip()]
        before = headers.get(name)
        headers[name] = value if before is None else before + ("; " if name == "cookie" else ",") + value
    parameters = {}
    if query:
        from urllib.parse import parse_qsl

        for name, value in parse_qsl(query, keep_blank_values=True):
            parameters.setdefault(name, []).append(value)
    text = text_of(request, body) if body else None
    now = time.time()
    host = headers.get("host", "")
    caller = {"sourceIp": headers.get("x-forwarded-for", "").partition(",")[0].strip(), "userAgent": headers.get("user-agent", "")}
    event = {
        "version": "2.0",
        "routeKey": "$default",
        "resource": path,
        "rawPath": path,
        "path": path,
        "httpMethod": request.method,
        "rawQueryString": query,
        "headers": headers,
        "multiValueHeaders": None,
        "queryStringParameters": {name: ",".join(values) for name, values in parameters.items()},
        "multiValueQueryStringParameters": parameters or None,
        "pathParameters": None,
        "stageVariables": {},
        "requestContext": {
            "accountId": "",
            "apiId": "",
            "resourceId": "",
            "resourcePath": path,
            "domainName": host,
            "domainPrefix": host.partition(".")[0],
            "http": {"method": request.method, "path": path, "protocol": "HTTP/1.1", **caller},
            "httpMethod": request.method,
            "identity": caller,
            "authorizer": None,
            "requestId": invocation.id,
            "routeKey": "$default",
            "stage": "$default",
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)),
            "timeEpoch": int(now * 1000),
        },
        "body": None if not body else base64(body) if text is None else text,
        "isBase64Encoded": bool(body) and text is None,
    }
    if cookies:
        event["cookies"] = cookies
    return event


def trigger_input(request, body):
    """The data of an event that came by another trigger."""
    if not body:
        return {}
    text = text_of(request, body)
    if text is None:
        return {"data_base64": base64(body)}
    kind = request.header("content-type")
    if kind is not None and "json" not in kind.lower():
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


def to_json(value):
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8", "surrogatepass")
    except (TypeError, ValueError, RecursionError) as error:
        raise BadAnswer("the handler's answer cannot be written as JSON: %s" % error) from None


def render(result, structured):
    """(status, headers, body) of what a handler returns; raises BadAnswer."""
    if structured and isinstance(result, dict) and "statusCode" in result:
        return structured_answer(result)
    if result is None:
        return 200, [], b""
    if isinstance(result, str):
        return 200, [("content-type", "text/plain; charset=utf-8")], result.encode("utf-8", "surrogateescape")
    if isinstance(result, (bytes, bytearray, memoryview)):
        return 200, [("content-type", "application/octet-stream")], bytes(result)
    return 200, [("content-type", "application/json")], to_json(result)


def structured_answer(result):
    try:
        status = int(result["statusCode"])
    except (TypeError, ValueError):
        status = 0
    if not 200 <= status <= 599:
        raise BadAnswer("the handler's statusCode is %r, not a number from 200 to 599" % (result["statusCode"],))
    headers = []
    for group in (result.get("headers"), result.get("multiValueHeaders")):
        for name, value in group.items() if isinstance(group, dict) else ():
            values = value if isinstance(value, (list, tuple)) else (value,)
            headers += [(str(name), header_text(one)) for one in values if one is not None]
    headers += [("set-cookie", str(cookie)) for cookie in result.get("cookies") or ()]
    body = result.get("body")
    if body is None:
        return status, headers, b""
    if isinstance(body, (bytes, bytearray)):
        return status, headers, bytes(body)
    if result.get("isBase64Encoded") is True:
        from base64 import b64decode

        try:
            return status, headers, b64decode(body)
        except (ValueError, TypeError):
            raise BadAnswer("the handler's body is not base64, though isBase64Encoded says so") from None
    text = isinstance(body, str)
    if not any(name.lower() == "content-type" for name, _ in headers):
        headers.append(("content-type", "text/plain; charset=utf-8" if text else "application/json"))
    return status, headers, body.encode("utf-8", "surrogateescape") if text else to_json(body)


def header_text(value):
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def event_style(handler, instance):
    """Serves one request whose head has been read."""
    limit = instance.limits["bufferedBodyBytes"]
    memory_mb = instance.limits.get("memoryMb", 0)
    asynchronous = bool(getattr(getattr(handler, "__code__", None), "co_flags", 0) & 0x80)

    def serve(request, invocation):
        try:
            body = request.body.all(limit)
        except TooLarge:
            instance.too_large(request, invocation, limit)
            return
        trigger = request.header("ebb-trigger") or "http"
        event = http_event(request, invocation, body) if trigger == "http" else trigger_input(request, body)
        context = Context(invocation, trigger, memory_mb)
        result = handler(event, context)
        if asynchronous or hasattr(result, "__await__"):
            result = instance.loop().run(result)
        status, headers, content = render(result, trigger == "http")
        request.answer(status, headers, content, invocation.ends_with_answer)

    return serve
