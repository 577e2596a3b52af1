// AWS Lambda with the handler in a folder: handler src/app.lambdaHandler.
exports.lambdaHandler = async (event) => ({ statusCode: 200, body: `nested ${event.httpMethod}` });
