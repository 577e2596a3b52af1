// The one way from the command line into the daemon itself: `up` and `start`.

import { readDaemonConfig } from "#config.ts";
import type { Daemon, startDaemon } from "#daemon.ts";
import type { CommandContext } from "./context.ts";

/** After a signal: what has not ended by then is left to the spawner, which cleans up by itself. */
const stopMs = 9_800;

/** Runs until a signal ends it. `ready` is called when requests are served. */
export async function runDaemon(
  { options, output }: Pick<CommandContext, "options" | "output">,
  ready: (daemon: Daemon) => Promise<void> | void = () => {},
): Promise<void> {
  const trustProxy = options.many("trust-proxy");
  const registries = options.many("registry");
  const config = readDaemonConfig({
    data: options.text("data") ?? undefined,
    listen: options.text("listen") ?? undefined,
    url: options.text("url") ?? undefined,
    isolation: options.text("isolation") ?? undefined,
    pool: options.text("pool") ?? undefined,
    keepAlive: options.text("keep-alive") ?? undefined,
    pause: options.text("pause") ?? undefined,
    egressRate: options.text("egress-rate") ?? undefined,
    trustProxy: trustProxy.length > 0 ? trustProxy : undefined,
    registries: registries.length > 0 ? registries : undefined,
  });
  // Listened for before anything is started: a signal while it starts must not leave half of it behind.
  const signalled = Promise.withResolvers<void>();
  const onSignal = (): void => signalled.resolve();
  process.on("SIGTERM", onSignal).on("SIGINT", onSignal);
  const start = await load();
  const daemon = await start(config, fatal);
  // A line of its own: scripts wait for it.
  if (output.json) output.value({ ready: daemon.url });
  else output.line(`ready ${daemon.url}`);
  await Promise.race([ready(daemon), signalled.promise]);
  await signalled.promise;
  const late = setTimeout(tooLate, stopMs);
  await daemon.stop();
  clearTimeout(late);
  process.off("SIGTERM", onSignal).off("SIGINT", onSignal);
}

/** Killed: an exit waits for the worker threads, and one of them may be waiting for the disk, for as long as that takes. */
function tooLate(): void {
  process.stderr.write("ebb: not everything ended in time\n");
  process.kill(process.pid, "SIGKILL");
}

function fatal(reason: string): void {
  process.stderr.write(`ebb: ${reason}\n`);
  process.exit(1);
}

async function load(): Promise<typeof startDaemon> {
  return (await import("#daemon.ts")).startDaemon;
}
