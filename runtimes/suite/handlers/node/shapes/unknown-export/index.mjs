// Only an export that no rule knows.
export const helloHttp = (req, res) => res.end("x");
