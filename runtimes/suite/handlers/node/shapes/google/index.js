// Google Cloud Functions: any name, (req, res), named by handler.
exports.helloHttp = (req, res) => {
  res.status(200).send(`Hello ${req.query.name || req.body.name}`);
};
