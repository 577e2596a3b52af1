// What the app file will say in later versions of ebb: refused by name until then, so that nobody takes it for a typing error.

/** Keys of the app file itself. */
export const laterKeys: Readonly<Record<string, string>> = {
  buckets: "buckets come with a later version of ebb",
  queues: "queues come with a later version of ebb",
  triggers: "triggers come with a later version of ebb, and are written at a function",
};

/** Keys of a function. */
export const laterFunctionKeys: Readonly<Record<string, string>> = {
  triggers: "triggers come with a later version of ebb",
};

/** Keys of a job. */
export const laterJobKeys: Readonly<Record<string, string>> = {
  triggers: "triggers come with a later version of ebb",
};

export const laterRuntimes: readonly string[] = ["go", "rust", "php", "bun", "deno"];
export const laterIsolations: readonly string[] = ["microvm"];
