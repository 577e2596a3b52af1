// The code of a system error ("ENOENT"), without trusting that what was thrown is one.

/** Null: not an error of the system. */
export function errnoOf(error: unknown): string | null {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : null;
}
