// AWS Lambda as it was first: by callback, later.
exports.handler = function (event, context, callback) {
  context.callbackWaitsForEmptyEventLoop = false;
  setImmediate(() => callback(null, { statusCode: 200, body: "called back" }));
};
