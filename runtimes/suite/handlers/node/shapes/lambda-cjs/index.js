// AWS Lambda, CommonJS.
exports.handler = async function (event, context) {
  return { statusCode: 200, body: JSON.stringify({ path: event.requestContext.http.path, id: context.awsRequestId.length }) };
};
