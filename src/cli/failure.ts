// How a command ends badly: one clear line on stderr, exit code 1 (failure) or 2 (wrong usage).

/** Exit code 1. `more`: lines below the first, for a person only. */
export class Failure extends Error {
  readonly more: readonly string[];

  constructor(message: string, more: readonly string[] = []) {
    super(message);
    this.name = "Failure";
    this.more = more;
  }
}

/** Exit code 2. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}
