// Vercel, asynchronous, as an ES module.
export default async function handler(req, res) {
  await Promise.resolve();
  res.setHeader("x-shape", "vercel");
  res.send("sent");
}
