// Fills Node's compile cache with what the daemon, its threads and the spawner run. The launcher runs it, as a process that ends:
// the type stripper, 18 MB, stays in every thread that meets a file which is not there.

// The command line acts when it is imported; this is the least that it can do.
process.argv.splice(2, Infinity, "--version");
await import("../src/cli.ts");
for (const part of ["cli/commands/up.ts", "cli/commands/start.ts", "daemon.ts"]) await import(`../src/${part}`);
// These refuse to run by hand, once they are compiled.
for (const part of ["threads/store.ts", "threads/telemetry.ts", "spawner/process.ts"])
  await import(`../src/${part}`).catch(() => {});
