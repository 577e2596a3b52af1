"""A coroutine as the handler."""

import asyncio


async def handler(event, context):
    await asyncio.sleep(0)
    return {"async": event["httpMethod"]}
