// Starts in order, stops in reverse: what is not started is not stopped, and one that fails to stop does not keep the others.

export interface Stage {
  start(): Promise<void>;
  stop(): Promise<unknown>;
}

export interface Stages {
  /** Starts them at once, and owes the stops of those that started, in the order of the list. Rejects when all have settled. */
  begin(...together: Stage[]): Promise<void>;
  /** Owes a stop only. */
  owe(stop: () => Promise<unknown>): void;
  /** Runs what is owed, the last first; once. Rejects with the first error, after all have run. */
  stop(): Promise<void>;
}

export function createStages(): Stages {
  const owed: Array<() => Promise<unknown>> = [];
  let stopping: Promise<void> | null = null;
  const run = async (): Promise<void> => {
    const errors: unknown[] = [];
    for (let stop = owed.pop(); stop; stop = owed.pop())
      try {
        await stop();
      } catch (error) {
        errors.push(error);
      }
    if (errors.length > 0) throw errors[0];
  };
  return {
    async begin(...together) {
      const started = await Promise.allSettled(together.map((stage) => stage.start()));
      for (const [index, stage] of together.entries())
        if (started[index]?.status === "fulfilled") owed.push(() => stage.stop());
      const failed = started.find((each) => each.status === "rejected");
      if (failed) throw failed.reason;
    },
    owe: (stop) => void owed.push(stop),
    stop: () => (stopping ??= run()),
  };
}
