// Vercel, Node style.
module.exports = (req, res) => {
  const { name = "world" } = req.query;
  res.status(202).json({ hello: name, body: req.body ?? null, cookie: req.cookies.session ?? null });
};
