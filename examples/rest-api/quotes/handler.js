// Private, in the event style that Lambda and Scaleway know.
const quotes = ["Simplicity is prerequisite for reliability.", "Premature optimisation is the root of all evil."];

exports.handle = async (event) => ({
  statusCode: 200,
  headers: { "content-type": "text/plain" },
  body: event.path === "/random" ? quotes[Math.floor(Math.random() * quotes.length)] : quotes.join("\n"),
});
