// As Express's own page has it: an application that listens at load.
const express = require("express");
const app = express();
const port = process.env.PORT || 3000;
app.use(express.json());
app.get("/", (req, res) => res.send("Hello from Express"));
app.post("/users/:name", (req, res) => res.status(201).json({ name: req.params.name, got: req.body, query: req.query }));
app.get("/throw", () => {
  throw new Error("boom in Express");
});
app.listen(port, () => console.log(`Example app listening on port ${port}`));
