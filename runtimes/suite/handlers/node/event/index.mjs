// The event style's answers, by path.
export async function handle(event, context) {
  if (context.trigger !== "http") {
    if (event?.fail) throw new Error("boom in the event");
    return { input: event, trigger: context.trigger };
  }
  switch (event.path) {
    case "/event":
      return event;
    case "/context":
      return {
        id: context.awsRequestId,
        name: context.functionName,
        memory: context.memoryLimitInMb,
        remaining: context.getRemainingTimeInMillis(),
      };
    case "/structured":
      return { statusCode: 201, headers: { "x-one": "1", "x-many": ["a", "b"] }, cookies: ["c=3"], body: "made" };
    case "/object-body":
      return { statusCode: 200, body: { a: 1 } };
    case "/base64":
      return { statusCode: 200, headers: { "content-type": "image/png" }, body: Buffer.from([0, 255, 1]).toString("base64"), isBase64Encoded: true };
    case "/text":
      return "plain";
    case "/number":
      return 42;
    case "/object":
      return { a: [1, 2] };
    case "/nothing":
      return undefined;
    case "/circular": {
      const value = {};
      value.self = value;
      return value;
    }
    case "/bad-status":
      return { statusCode: 99 };
    case "/bad-header":
      return { statusCode: 200, headers: { "x-bad": "a\r\nset-cookie: stolen=1" }, body: "x" };
    case "/throw":
      throw new TypeError("boom in the handler");
    case "/length":
      return String(event.body.length);
    case "/hang":
      console.log("hanging");
      return new Promise((resolve) => context.signal.addEventListener("abort", () => (console.log("aborted"), resolve("late"))));
  }
  return { statusCode: 404 };
}
