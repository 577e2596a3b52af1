// The system calls that Node does not offer, by node:ffi; without it (the flag is missing, another libc) by small programs.
// node:ffi is experimental: this file knows it, children.ts, and the unpacker of images (images/unpack/system.ts), which runs apart.

import { spawnSync } from "node:child_process";
import { closeSync, readFileSync, readdirSync, writeSync } from "node:fs";
import { createServer } from "node:net";
import { errorIn } from "./netlink.ts";

/** mount(2), umount(2): <linux/mount.h>. */
const mountFlags = {
  readOnly: 1,
  noSetuid: 2,
  noDevices: 4,
  remount: 32,
  bind: 4096,
  recursive: 16384,
  private: 1 << 18,
  shared: 1 << 20,
} as const;
/** open_tree(2), mount_setattr(2), move_mount(2): the same numbers on every architecture. */
const openTree = { number: 428n, clone: 1n, closeOnExec: 0o2000000n } as const;
const moveMount = { number: 429n, fromDescriptor: 4n } as const;
const mountSetattr = { number: 442n, emptyPath: 0x1000n, idmap: 0x100000n } as const;
/** struct mount_attr: what is set, what is cleared, propagation, the user namespace. */
const mountAttr = { bytes: 32, userNamespaceAt: 24, readOnly: 1n, noSetuid: 2n, noDevices: 4n } as const;
/** unshare(2), setns(2): <linux/sched.h>. */
const networkNamespace = 0x40000000;
/** socket(2): AF_NETLINK and NETLINK_ROUTE, SOCK_RAW. */
const netlinkSocket = { family: 16, protocol: 0, type: 3 } as const;
const closeOnExecFlag = 0o2000000;
/** recv(2): what the kernel has to say to a request is there when it has been sent. */
const withoutWaiting = 0x40;
const netlinkAnswerBytes = 8 * 1024;
/** memfd_create(2): close-on-exec, may be sealed, may be executed (Linux 6.3; others know no difference). */
const memoryFile = { closeOnExec: 1, mayBeSealed: 2, executable: 16 } as const;
/** fcntl(2), F_ADD_SEALS: never written, shrunk, grown, or unsealed. */
const seals = { add: 1033, all: 1 | 2 | 4 | 8 } as const;
const workingDirectory = -100n;
const detach = 2;
const noFollow = 8;

export interface WritableLayers {
  /** The uppermost first. */
  readonly lower: readonly string[];
  readonly upper: string;
  readonly work: string;
}

/** A netlink socket of the namespace in which it was opened. */
export interface Netlink {
  /** Throws with the kernel's refusal. */
  send(message: Buffer): void;
  close(): void;
}

/** A listening socket, to be handed to a process and then closed here. */
export interface Listening {
  readonly fd: number;
  close(): void;
}

export interface Syscalls {
  readonly by: "ffi" | "programs";
  makeFifo(path: string): void;
  /** nosuid, nodev; private. */
  bind(source: string, target: string, readOnly: boolean): void;
  /** Binds a folder onto itself as a shared mount. */
  share(path: string): void;
  tmpfs(target: string, bytes: number, mode: string): void;
  /** Read-only; `lower` are relative to `base`, which becomes the working directory for the call. */
  overlay(base: string, lower: readonly string[], target: string): void;
  /** What may be written above `lower`; all names are relative to `base`. `upper` and `work` are on one file system. */
  writableOverlay(base: string, layers: WritableLayers, target: string): void;
  /** A read-only view of a folder whose ids are shifted as the user namespace behind `fd` maps them (Linux 5.12): a descriptor, mounted nowhere. */
  idmapped(source: string, fd: number): number;
  /** Mounts a view. */
  attach(view: number, target: string): void;
  /** Nothing that is mounted below is seen by anybody else's copy. */
  makePrivate(path: string): void;
  /** Lazily, never through a link. False: nothing was mounted there. */
  unmount(path: string): boolean;
  /** This thread goes into a network namespace that nobody else is in. */
  newNetwork(): void;
  /** This thread goes into the network namespace behind a descriptor. */
  joinNetwork(fd: number): void;
  /** Where this thread is now stays for as long as it is mounted on this file. */
  pinNetwork(path: string): void;
  /** Of a device where this thread is. */
  deviceIndex(name: string): number;
  netlink(): Netlink;
  /** Listens on a Unix socket, close-on-exec; `path` is at most 107 bytes. */
  listen(path: string): Promise<Listening>;
  /** A file in memory that nobody can change any more, close-on-exec; a descriptor of it. */
  sealedFile(name: string, content: Buffer): number;
  /** What this process inherited beyond its standard streams does not go on to its children (an engine closes them as well). */
  closeOnExec(): void;
}

class SyscallError extends Error {
  constructor(what: string, detail: string) {
    super(`${what}: ${detail}`);
    this.name = "SyscallError";
  }
}

const errnoNames: Readonly<Record<number, string>> = {
  1: "EPERM", 2: "ENOENT", 9: "EBADF", 12: "ENOMEM", 13: "EACCES", 16: "EBUSY", 17: "EEXIST", 19: "ENODEV", 20: "ENOTDIR", 22: "EINVAL",
  28: "ENOSPC", 30: "EROFS", 36: "ENAMETOOLONG", 38: "ENOSYS", 40: "ELOOP", 95: "EOPNOTSUPP", 98: "EADDRINUSE",
  100: "ENETDOWN", 101: "ENETUNREACH",
}; // prettier-ignore

function errnoName(code: number): string {
  return errnoNames[code] ?? `errno ${code}`;
}

export function createSyscalls(options: { ffi?: boolean } = {}): Syscalls {
  if (options.ffi !== false) {
    try {
      const ffi = process.getBuiltinModule("node:ffi");
      if (ffi) return throughFfi(ffi);
    } catch {
      // No such library or symbol: the programs do it.
    }
  }
  return throughPrograms();
}

function throughFfi(ffi: typeof import("node:ffi")): Syscalls {
  const { functions: libc } = ffi.dlopen(null, {
    mount: { arguments: ["string", "string", "string", "u64", "string"], return: "i32" },
    umount2: { arguments: ["string", "i32"], return: "i32" },
    mkfifo: { arguments: ["string", "u32"], return: "i32" },
    socket: { arguments: ["i32", "i32", "i32"], return: "i32" },
    bind: { arguments: ["i32", "buffer", "u32"], return: "i32" },
    listen: { arguments: ["i32", "i32"], return: "i32" },
    fcntl: { arguments: ["i32", "i32", "i32"], return: "i32" },
    memfd_create: { arguments: ["string", "u32"], return: "i32" },
    send: { arguments: ["i32", "buffer", "u64", "i32"], return: "i64" },
    recv: { arguments: ["i32", "buffer", "u64", "i32"], return: "i64" },
    unshare: { arguments: ["i32"], return: "i32" },
    setns: { arguments: ["i32", "i32"], return: "i32" },
    if_nametoindex: { arguments: ["string"], return: "u32" },
    // Younger than the C libraries of many machines: by number.
    syscall: { arguments: ["i64", "i64", "buffer", "i64", "buffer", "i64"], return: "i64" },
    __errno_location: { arguments: [], return: "pointer" },
  });
  const errno = (): number => ffi.getInt32(libc.__errno_location());
  const check = (what: string, result: number): number => {
    if (result >= 0) return result;
    throw new SyscallError(what, errnoName(errno()));
  };
  const mount = (source: string, target: string, type: string, flags: number, data: string): void => {
    check(`mount ${target}`, libc.mount(source, target, type, BigInt(flags), data));
  };
  const called = (what: string, result: bigint): bigint => BigInt(check(what, Number(result)));
  const text = (value: string): Buffer => Buffer.from(`${value}\0`);
  const nothing = text("");
  const tight = mountFlags.noSetuid | mountFlags.noDevices;
  return {
    by: "ffi",
    makeFifo: (path) => void check(`mkfifo ${path}`, libc.mkfifo(path, 0o600)),
    bind: (source, target, readOnly) => {
      mount(source, target, "", mountFlags.bind, "");
      const flags = mountFlags.remount | mountFlags.bind | tight | (readOnly ? mountFlags.readOnly : 0);
      mount("", target, "", flags, "");
    },
    share: (path) => {
      mount(path, path, "", mountFlags.bind, "");
      // Private first: it leaves the peer group of the file system below, so that nothing reaches the rest of the machine.
      mount("", path, "", mountFlags.private, "");
      mount("", path, "", mountFlags.shared, "");
    },
    tmpfs: (target, bytes, mode) => mount("tmpfs", target, "tmpfs", tight, `size=${bytes},mode=${mode}`),
    overlay: (base, lower, target) => {
      const before = process.cwd();
      process.chdir(base);
      try {
        mount("ebb", target, "overlay", tight | mountFlags.readOnly, `lowerdir=${lower.join(":")}`);
      } finally {
        process.chdir(before);
      }
    },
    writableOverlay: (base, { lower, upper, work }, target) => {
      const before = process.cwd();
      process.chdir(base);
      try {
        // Nothing of it is to outlive its mount, so nothing needs to be followed or synchronised.
        const options = `lowerdir=${lower.join(":")},upperdir=${upper},workdir=${work},redirect_dir=off,metacopy=off,index=off`;
        mount("ebb", target, "overlay", tight, options);
      } finally {
        process.chdir(before);
      }
    },
    idmapped: (source, fd) => {
      const flags = openTree.clone | openTree.closeOnExec;
      const view = called(
        `open_tree ${source}`,
        libc.syscall(openTree.number, workingDirectory, text(source), flags, nothing, 0n),
      );
      try {
        const { bytes, userNamespaceAt, readOnly, noSetuid, noDevices } = mountAttr;
        const attributes = Buffer.alloc(bytes);
        attributes.writeBigUInt64LE(mountSetattr.idmap | readOnly | noSetuid | noDevices);
        attributes.writeBigUInt64LE(BigInt(fd), userNamespaceAt);
        const size = BigInt(bytes);
        called(
          `mount_setattr ${source}`,
          libc.syscall(mountSetattr.number, view, nothing, mountSetattr.emptyPath, attributes, size),
        );
        return Number(view);
      } catch (error) {
        closeSync(Number(view));
        throw error;
      }
    },
    attach: (view, target) => {
      const from = moveMount.fromDescriptor;
      called(
        `move_mount ${target}`,
        libc.syscall(moveMount.number, BigInt(view), nothing, workingDirectory, text(target), from),
      );
    },
    makePrivate: (path) => mount("", path, "", mountFlags.private, ""),
    unmount: (path) => {
      if (libc.umount2(path, detach | noFollow) === 0) return true;
      const code = errno();
      if (code === 22 || code === 2) return false;
      throw new SyscallError(`umount ${path}`, errnoName(code));
    },
    newNetwork: () => void check("unshare", libc.unshare(networkNamespace)),
    joinNetwork: (fd) => void check("setns", libc.setns(fd, networkNamespace)),
    pinNetwork: (path) => mount("/proc/thread-self/ns/net", path, "", mountFlags.bind, ""),
    deviceIndex: (name) => {
      const index = libc.if_nametoindex(name);
      if (index === 0) throw new SyscallError(`if_nametoindex ${name}`, errnoName(errno()));
      return index;
    },
    netlink: () => {
      const { family, type, protocol } = netlinkSocket;
      const fd = check("socket", libc.socket(family, type | closeOnExecFlag, protocol));
      const answer = Buffer.alloc(netlinkAnswerBytes);
      return {
        send: (message) => {
          check("netlink", Number(libc.send(fd, message, BigInt(message.length), 0)));
          const bytes = check("netlink", Number(libc.recv(fd, answer, BigInt(answer.length), withoutWaiting)));
          const code = errorIn(answer.subarray(0, bytes));
          if (code !== 0) throw new SyscallError("netlink", code === null ? "no answer" : errnoName(code));
        },
        close: () => closeSync(fd),
      };
    },
    listen: async (path) => {
      const address = Buffer.alloc(110);
      const bytes = Buffer.from(path);
      if (bytes.length > 107) throw new SyscallError(`listen ${path}`, "ENAMETOOLONG");
      address.writeUInt16LE(1); // AF_UNIX; both architectures that ebb runs on are little-endian
      bytes.copy(address, 2);
      const fd = check("socket", libc.socket(1, 1 | closeOnExecFlag, 0)); // SOCK_STREAM | SOCK_CLOEXEC
      try {
        check(`bind ${path}`, libc.bind(fd, address, bytes.length + 3));
        check(`listen ${path}`, libc.listen(fd, 4096));
      } catch (error) {
        closeSync(fd);
        throw error;
      }
      return { fd, close: () => closeSync(fd) };
    },
    sealedFile: (name, content) => {
      const flags = memoryFile.closeOnExec | memoryFile.mayBeSealed;
      let fd = libc.memfd_create(name, flags | memoryFile.executable);
      if (fd < 0) fd = check("memfd_create", libc.memfd_create(name, flags));
      try {
        for (let at = 0; at < content.length;) at += writeSync(fd, content, at);
        check("fcntl", libc.fcntl(fd, seals.add, seals.all));
        return fd;
      } catch (error) {
        closeSync(fd);
        throw error;
      }
    },
    closeOnExec: () => {
      for (const entry of readdirSync("/proc/self/fd")) {
        // F_SETFD, FD_CLOEXEC. The descriptor of this listing itself is gone by now, which is harmless.
        if (Number(entry) > 2) libc.fcntl(Number(entry), 2, 1);
      }
    },
  };
}

function run(program: string, args: readonly string[], cwd = "/"): void {
  const { status, stderr, error } = spawnSync(program, args, { encoding: "utf8", env: {}, cwd });
  if (status !== 0) throw new SyscallError(`${program} ${args.at(-1) ?? ""}`, error?.message ?? stderr.trim());
}

function mountProgram(...args: string[]): void {
  run("/bin/mount", args);
}

function needsFfi(call: string): never {
  throw new SyscallError(call, "needs node:ffi");
}

function throughPrograms(): Syscalls {
  return {
    by: "programs",
    makeFifo: (path) => run("/usr/bin/mkfifo", ["-m", "0600", path]),
    bind: (source, target, readOnly) => {
      mountProgram("--bind", source, target);
      mountProgram("-o", `remount,bind,nosuid,nodev${readOnly ? ",ro" : ""}`, target);
    },
    share: (path) => {
      mountProgram("--bind", path, path);
      mountProgram("--make-private", path);
      mountProgram("--make-shared", path);
    },
    tmpfs: (target, bytes, mode) =>
      mountProgram("-t", "tmpfs", "-o", `nosuid,nodev,size=${bytes},mode=${mode}`, "tmpfs", target),
    overlay: (base, lower, target) =>
      run("/bin/mount", ["-t", "overlay", "-o", `ro,nosuid,nodev,lowerdir=${lower.join(":")}`, "ebb", target], base),
    writableOverlay: (base, { lower, upper, work }, target) => {
      const options = `nosuid,nodev,lowerdir=${lower.join(":")},upperdir=${upper},workdir=${work}`;
      run("/bin/mount", ["-t", "overlay", "-o", options, "ebb", target], base);
    },
    idmapped: (source) => needsFfi(`open_tree ${source}`),
    attach: () => needsFfi("move_mount"),
    newNetwork: () => needsFfi("unshare"),
    joinNetwork: () => needsFfi("setns"),
    pinNetwork: () => needsFfi("mount"),
    deviceIndex: () => needsFfi("if_nametoindex"),
    netlink: () => needsFfi("netlink"),
    makePrivate: (path) => mountProgram("--make-private", path),
    unmount: (path) => {
      if (!isMountPoint(path)) return false;
      run("/bin/umount", ["-l", path]);
      return true;
    },
    listen: async (path) => {
      const server = createServer();
      await new Promise<void>((resolve, reject) => {
        server.once("error", reject);
        server.listen({ path, backlog: 4096 }, resolve);
      });
      // Node has no public name for a server's descriptor.
      const handle: unknown = Reflect.get(server, "_handle");
      const fd: unknown = typeof handle === "object" && handle !== null ? Reflect.get(handle, "fd") : null;
      if (typeof fd !== "number") throw new SyscallError(`listen ${path}`, "no descriptor");
      return { fd, close: () => void server.close() };
    },
    sealedFile: () => needsFfi("memfd_create"),
    closeOnExec: () => {},
  };
}

/** As this process sees it: one line a mount. To read it takes as long as there are mounts, of all sandboxes. */
export function mountTable(): string {
  return readFileSync("/proc/self/mountinfo", "utf8");
}

/** Mount points at or below a path, the latest first. */
export function mountsBelow(path: string, table = mountTable()): string[] {
  // Mostly there is none: 300 sandboxes that end at once cost seconds of looking at each line.
  if (!writtenOtherwise.test(path) && !table.includes(path)) return [];
  const found: string[] = [];
  for (const line of table.split("\n")) {
    const point = line
      .split(" ")[4]
      ?.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(parseInt(octal, 8)));
    if (point !== undefined && (point === path || point.startsWith(`${path}/`))) found.push(point);
  }
  return found.toReversed();
}

/** What the table has in octal. */
const writtenOtherwise = /[\s\\#]/;

function isMountPoint(path: string): boolean {
  return mountsBelow(path).includes(path);
}
