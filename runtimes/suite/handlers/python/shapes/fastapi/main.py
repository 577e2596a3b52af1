"""FastAPI in small: an object whose __call__ is ASGI, with lifespan and state."""


class FastAPI:
    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            scope["state"]["pool"] = "open"
            await send({"type": "lifespan.startup.complete"})
            await receive()
            print("shut down")
            await send({"type": "lifespan.shutdown.complete"})
            return
        body = ("fastapi pool " + scope["state"]["pool"]).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(len(body)).encode())]})
        await send({"type": "http.response.body", "body": body})


app = FastAPI()
