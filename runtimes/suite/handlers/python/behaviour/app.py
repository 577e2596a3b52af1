"""Every behaviour that the suite asks for, as an ASGI application."""

import asyncio
import os
import subprocess
import sys
from urllib.parse import parse_qs

STATE = {"produced": 0, "go": None, "release": None}


async def body_of(receive):
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


async def answer(send, status, body, headers=()):
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})
    await send({"type": "http.response.body", "body": body})


async def app(scope, receive, send):
    assert scope["type"] == "http"
    path = scope["path"]
    query = {name: values[0] for name, values in parse_qs(scope["query_string"].decode()).items()}
    headers = dict(scope["headers"])
    if path == "/echo":
        body = await body_of(receive)
        out = [(b"content-type", headers.get(b"content-type", b"text/none")), (b"x-method", scope["method"].encode()), (b"x-in", headers.get(b"x-in", b""))]
        await answer(send, 200, body, out)
    elif path == "/cookies":
        await answer(send, 201, b"created", [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2"), (b"x-one", b"1")])
    elif path == "/none":
        await answer(send, 204, b"")
    elif path == "/pipe":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            message = await receive()
            more = message.get("more_body", False)
            await send({"type": "http.response.body", "body": message.get("body", b"").upper(), "more_body": more})
            if not more:
                return
    elif path == "/flood":
        left = int(query["bytes"])
        STATE["produced"] = 0
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while left:
            size = min(left, 65536)
            left -= size
            STATE["produced"] += size
            await send({"type": "http.response.body", "body": bytes(size), "more_body": True})
        await send({"type": "http.response.body"})
    elif path == "/produced":
        await answer(send, 200, str(STATE["produced"]).encode())
    elif path == "/slurp":
        STATE["go"] = asyncio.Event()
        print("slurping")
        await STATE["go"].wait()
        await answer(send, 200, str(len(await body_of(receive))).encode())
    elif path == "/go":
        STATE["go"].set()
        await answer(send, 200, b"went")
    elif path == "/hang":
        print("hanging")
        while (await receive())["type"] != "http.disconnect":
            pass
        print("aborted")
    elif path == "/throw":
        raise RuntimeError("boom in the handler")
    elif path == "/throw-late":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        raise RuntimeError("boom in the stream")
    elif path == "/env":
        await answer(send, 200, os.environ.get(query["name"], "unset").encode())
    elif path == "/print":
        print("out " + query["text"])
        print("err " + query["text"], file=sys.stderr)
        await answer(send, 200, b"printed")
    elif path == "/print-long":
        print("x" * int(query["chars"]))
        await answer(send, 200, b"printed")
    elif path == "/child":
        subprocess.run([sys.executable, "-I", "-S", "-c", "print('from the child')"])
        await answer(send, 200, b"spawned")
    elif path == "/meet":
        print("arrived " + query["who"])
        waiting = STATE["release"]
        if waiting is None:
            STATE["release"] = asyncio.Event()
            await STATE["release"].wait()
        else:
            STATE["release"] = None
            waiting.set()
        print("met " + query["who"])
        await answer(send, 200, b"met")
    elif path == "/wait-until":
        STATE["go"] = asyncio.Event()
        await answer(send, 200, b"early")
        await STATE["go"].wait()
        print("waited")
    elif path == "/die":
        os.write(2, b"boom outside\n")
        os._exit(1)
    elif path == "/exit":
        sys.exit(7)
    else:
        await answer(send, 404, b"not found")
