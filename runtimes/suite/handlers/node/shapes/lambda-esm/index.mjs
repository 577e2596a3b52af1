// AWS Lambda, ES module.
export const handler = async (event) => ({ statusCode: 200, headers: { "content-type": "text/plain" }, body: `lambda ${event.rawPath}` });
