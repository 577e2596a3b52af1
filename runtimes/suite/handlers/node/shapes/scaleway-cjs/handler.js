// Scaleway Functions, CommonJS.
module.exports.handle = (event, context, callback) => {
  return { statusCode: 200, headers: { "Content-Type": ["text/plain"] }, body: `hello ${event.queryStringParameters.name}` };
};
