"""Scaleway Functions, with a dependency in package/."""

import greeting


def handle(event, context):
    return {"body": greeting.of(event["queryStringParameters"].get("name", "world")), "statusCode": 200}
