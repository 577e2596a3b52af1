// Entry of the command line; talks to the daemon's API only.

// A reader that has gone (`ebb logs | head`) is no failure.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") process.exit(0);
  throw error;
});
const { main } = await import("./cli/main.ts");
process.exitCode = await main(process.argv.slice(2), { streams: process });
