// Azure Functions: (context, req), in an order that no rule knows.
module.exports = async function (context, req) {
  context.res = { body: "azure" };
};
