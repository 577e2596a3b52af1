// An application that listens, and is exported for its tests.
const express = require("express");
const app = express();
app.get("/", (req, res) => res.send("Hello from Express"));
app.listen(process.env.PORT || 3000, () => console.log("listening"));
module.exports = app;
