// Tells when a folder has changed and come to rest.

import { watch } from "node:fs";
import { sep } from "node:path";

/** How long nothing must change: editors write in several steps. */
const restMs = 60;

/**
 * Calls `changed` at once, after each change that `counts` (path relative to the folder, with /), and again after it has ended
 * where more came meanwhile; never two at a time. It watches before the first call, so that no change is missed. Resolves when
 * `signal` aborts, rejects when the folder cannot be watched any more.
 */
export function watchFolder(
  folder: string,
  options: {
    readonly counts: (path: string) => Promise<boolean>;
    readonly changed: () => Promise<void>;
    readonly signal: AbortSignal;
  },
): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  let timer: NodeJS.Timeout | null = null;
  let busy = false;
  let again = false;
  const rested = (): void => {
    busy = false;
    if (!again) return;
    again = false;
    fire();
  };
  const fire = (): void => {
    timer = null;
    if (busy) {
      again = true;
      return;
    }
    busy = true;
    options.changed().then(rested, reject);
  };
  const touched = (): void => {
    if (options.signal.aborted) return;
    if (timer) clearTimeout(timer);
    timer = setTimeout(fire, restMs);
  };
  const watcher = watch(folder, { recursive: true, signal: options.signal }, (_event, name) => {
    if (name === null) touched();
    else options.counts(name.split(sep).join("/")).then((counts) => counts && touched(), reject);
  });
  watcher.on("error", reject);
  watcher.on("close", () => {
    if (timer) clearTimeout(timer);
    resolve();
  });
  fire();
  return promise;
}
