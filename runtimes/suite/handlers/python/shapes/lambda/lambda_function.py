"""AWS Lambda."""

import json


def lambda_handler(event, context):
    return {"statusCode": 200, "body": json.dumps({"path": event["rawPath"], "id": len(context.aws_request_id)})}
