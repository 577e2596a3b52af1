// Starts programs by posix_spawn(3). Node's own way is to fork, which copies the page tables of this process for each of them: 4 ms of
// processors, half of them before the program begins. Without node:ffi, or with an older C library, it is Node that starts them.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { constants } from "node:os";
import { getSystemErrorName } from "node:util";

export interface Exited {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface Child {
  readonly pid: number;
  /** It has ended, and its number may be somebody else's by now. */
  readonly gone: boolean;
  readonly exit: Promise<Exited>;
}

export interface Program {
  readonly path: string;
  /** From argv[0] on. */
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly cwd: string;
  /** Descriptors of this process, by their number in the program. */
  readonly stdio: ReadonlyArray<"ignore" | number>;
}

/** <spawn.h>: in a session of its own, with no signal blocked, and none ignored. */
const spawnFlags = { setSignalDefaults: 0x04, setSignalMask: 0x08, setSession: 0x80 } as const;
/** posix_spawnattr_t, posix_spawn_file_actions_t and sigset_t are smaller than this on all machines; and so is an int. */
const structBytes = 512;
const readAndWrite = 2;
const withoutWaiting = 1;
const interrupted = 4;
/** As long as a timer can be. */
const longestMs = 2 ** 31 - 1;

const signalNames = new Map(Object.entries(constants.signals).map(([name, number]) => [number, name]));

export class Children {
  readonly #spawn: Posix | null;
  readonly #alive = new Map<number, (how: Exited) => void>();
  /** While one of them lives this process goes on, as it does with Node's own. */
  #held: NodeJS.Timeout | null = null;
  #listens = false;

  constructor(options: { readonly ffi?: boolean } = {}) {
    this.#spawn = options.ffi === false ? null : posix();
  }

  get by(): "posix_spawn" | "node" {
    return this.#spawn === null ? "node" : "posix_spawn";
  }

  /** In a session of its own. Rejects where it cannot be started. */
  async start(program: Program): Promise<Child> {
    const { stdio } = program;
    // A descriptor that stands where another one goes would be overwritten.
    const inTheWay = stdio.some((fd) => fd !== "ignore" && fd < stdio.length);
    if (this.#spawn === null || inTheWay) return byNode(program);
    if (!this.#listens) process.on("SIGCHLD", () => this.#reap());
    this.#listens = true;
    const pid = this.#spawn.start(program);
    this.#held ??= setInterval(() => undefined, longestMs);
    const ended = Promise.withResolvers<Exited>();
    let gone = false;
    this.#alive.set(pid, (how) => {
      gone = true;
      ended.resolve(how);
    });
    return {
      pid,
      exit: ended.promise,
      get gone() {
        return gone;
      },
    };
  }

  /** Several ends may be one signal. What Node has started, it waits for by itself. */
  #reap(): void {
    for (const [pid, over] of this.#alive) {
      const how = this.#spawn!.ended(pid);
      if (how === null) continue;
      this.#alive.delete(pid);
      over(how);
    }
    if (this.#alive.size > 0 || this.#held === null) return;
    clearInterval(this.#held);
    this.#held = null;
  }
}

async function byNode({ path, argv, env, cwd, stdio }: Program): Promise<Child> {
  const child = spawn(path, argv.slice(1), { argv0: argv[0], env, cwd, stdio: [...stdio], detached: true });
  const exit = new Promise<Exited>((resolve) => {
    child.once("exit", (code, signal) => resolve({ code, signal }));
  });
  await once(child, "spawn");
  return {
    pid: child.pid!,
    exit,
    get gone() {
      return child.exitCode !== null || child.signalCode !== null;
    },
  };
}

interface Posix {
  start(program: Program): number;
  /** null: it lives. */
  ended(pid: number): Exited | null;
}

/** null: it is not there. */
function posix(): Posix | null {
  try {
    const ffi = process.getBuiltinModule("node:ffi");
    return ffi ? throughFfi(ffi) : null;
  } catch {
    return null;
  }
}

function throughFfi(ffi: typeof import("node:ffi")): Posix {
  const { functions: libc } = ffi.dlopen(null, {
    posix_spawn: { arguments: ["buffer", "string", "buffer", "buffer", "buffer", "buffer"], return: "i32" },
    posix_spawnattr_init: { arguments: ["buffer"], return: "i32" },
    posix_spawnattr_setflags: { arguments: ["buffer", "i32"], return: "i32" },
    posix_spawnattr_setsigdefault: { arguments: ["buffer", "buffer"], return: "i32" },
    posix_spawnattr_setsigmask: { arguments: ["buffer", "buffer"], return: "i32" },
    posix_spawn_file_actions_init: { arguments: ["buffer"], return: "i32" },
    posix_spawn_file_actions_destroy: { arguments: ["buffer"], return: "i32" },
    posix_spawn_file_actions_addopen: { arguments: ["buffer", "i32", "string", "i32", "u32"], return: "i32" },
    posix_spawn_file_actions_adddup2: { arguments: ["buffer", "i32", "i32"], return: "i32" },
    // Younger than the others: glibc 2.29.
    posix_spawn_file_actions_addchdir_np: { arguments: ["buffer", "string"], return: "i32" },
    waitpid: { arguments: ["i32", "buffer", "i32"], return: "i32" },
    __errno_location: { arguments: [], return: "pointer" },
  });
  const check = (what: string, code: number): void => {
    if (code !== 0) throw new Error(`${what}: ${getSystemErrorName(-code)}`);
  };
  const attributes = Buffer.alloc(structBytes);
  check("posix_spawnattr_init", libc.posix_spawnattr_init(attributes));
  const { setSignalDefaults, setSignalMask, setSession } = spawnFlags;
  const flags = setSignalDefaults | setSignalMask | setSession;
  check("posix_spawnattr_setflags", libc.posix_spawnattr_setflags(attributes, flags));
  const [every, none] = [Buffer.alloc(structBytes, 0xff), Buffer.alloc(structBytes)];
  check("posix_spawnattr_setsigdefault", libc.posix_spawnattr_setsigdefault(attributes, every));
  check("posix_spawnattr_setsigmask", libc.posix_spawnattr_setsigmask(attributes, none));
  const actions = Buffer.alloc(structBytes);
  const number = Buffer.alloc(structBytes);

  /** An array of C strings, and what keeps them where they are. */
  const strings = (texts: readonly string[]): { readonly array: Buffer; readonly held: Buffer } => {
    if (texts.some((text) => text.includes("\0"))) throw new Error("a NUL cannot be in an argument or a variable");
    // Never on V8's heap, where the collector moves things.
    const bytes = texts.reduce((sum, text) => sum + Buffer.byteLength(text) + 1, 0);
    const held = Buffer.allocUnsafeSlow(Math.max(structBytes, bytes));
    const array = Buffer.allocUnsafeSlow(Math.max(structBytes, (texts.length + 1) * 8));
    const first = ffi.getRawPointer(held);
    let at = 0;
    for (const [index, text] of texts.entries()) {
      array.writeBigUInt64LE(first + BigInt(at), index * 8);
      at += held.write(text, at);
      held[at++] = 0;
    }
    array.writeBigUInt64LE(0n, texts.length * 8);
    return { array, held };
  };

  return {
    start: ({ path, argv, env, cwd, stdio }) => {
      const args = strings(argv);
      const variables = strings(Object.entries(env).map(([name, value]) => `${name}=${value}`));
      check("posix_spawn_file_actions_init", libc.posix_spawn_file_actions_init(actions));
      try {
        for (const [as, fd] of stdio.entries())
          check(
            "posix_spawn_file_actions",
            fd === "ignore"
              ? libc.posix_spawn_file_actions_addopen(actions, as, "/dev/null", readAndWrite, 0)
              : libc.posix_spawn_file_actions_adddup2(actions, fd, as),
          );
        check("posix_spawn_file_actions", libc.posix_spawn_file_actions_addchdir_np(actions, cwd));
        check(
          `${path} cannot be started`,
          libc.posix_spawn(number, path, actions, attributes, args.array, variables.array),
        );
        return number.readInt32LE();
      } finally {
        libc.posix_spawn_file_actions_destroy(actions);
      }
    },
    ended: (pid) => {
      const found = libc.waitpid(pid, number, withoutWaiting);
      if (found === 0 || (found < 0 && ffi.getInt32(libc.__errno_location()) === interrupted)) return null;
      // Nobody else waits for it: it must have been there.
      if (found < 0) return { code: null, signal: null };
      const status = number.readInt32LE();
      const signal = status & 0x7f;
      if (signal === 0) return { code: (status >> 8) & 0xff, signal: null };
      // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the kernel's own names, from the table that they stand in
      return { code: null, signal: (signalNames.get(signal) ?? "SIGKILL") as NodeJS.Signals };
    },
  };
}
