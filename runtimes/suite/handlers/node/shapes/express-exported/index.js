// An application that is exported and does not listen: a function (req, res, next) with a property `handle`.
const express = require("express");
const app = express();
app.use(express.json());
app.get("/", (req, res) => res.send("Hello from Express"));
app.post("/", (req, res) => res.status(201).json(req.body));
module.exports = app;
