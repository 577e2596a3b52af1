// Scaleway Functions, ES module.
export { handle };
function handle(event, context, cb) {
  return { body: JSON.stringify({ message: "scaleway" }), statusCode: 201 };
}
