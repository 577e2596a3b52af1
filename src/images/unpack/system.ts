// The system calls that Node does not offer and the unpacking of layers needs, by node:ffi.

export interface System {
  /** For the whole process, which must have loaded all it needs. */
  chroot(folder: string): void;
  /** Overlayfs's mark that a name of the layers below is gone: a character device 0:0. */
  whiteout(path: string): void;
  /** Overlayfs's mark that nothing of the layers below is seen in a folder. */
  opaque(path: string): void;
  isOpaque(path: string): boolean;
  fifo(path: string, mode: number): void;
}

const characterDevice = 0o020000;
const pipe = 0o010000;
const opaqueMark = "trusted.overlay.opaque";

export function createSystem(): System {
  const ffi = process.getBuiltinModule("node:ffi");
  if (!ffi) throw new Error("this Node has no node:ffi; images are unpacked by the pinned one");
  const { functions: libc } = ffi.dlopen(null, {
    chroot: { arguments: ["string"], return: "i32" },
    mknod: { arguments: ["string", "u32", "u64"], return: "i32" },
    lsetxattr: { arguments: ["string", "string", "string", "u64", "i32"], return: "i32" },
    lgetxattr: { arguments: ["string", "string", "buffer", "u64"], return: "i64" },
    __errno_location: { arguments: [], return: "pointer" },
  });
  const check = (what: string, result: number): void => {
    if (result >= 0) return;
    const errno = ffi.getInt32(libc.__errno_location());
    // As Node's own errors, so that a full disk is told as one.
    const code = errno === 28 ? "ENOSPC" : errno === 122 ? "EDQUOT" : `errno ${errno}`;
    throw Object.assign(new Error(`${what}: ${code}`), { code });
  };
  const value = Buffer.alloc(1);
  return {
    chroot: (folder) => {
      check(`chroot ${folder}`, libc.chroot(folder));
      process.chdir("/");
    },
    whiteout: (path) => check(`mknod ${path}`, libc.mknod(path, characterDevice, 0n)),
    opaque: (path) => check(`setxattr ${path}`, libc.lsetxattr(path, opaqueMark, "y", 1n, 0)),
    // What cannot be read is not there: nothing else than overlayfs has written it.
    isOpaque: (path) => Number(libc.lgetxattr(path, opaqueMark, value, BigInt(value.length))) === 1 && value[0] === 121,
    fifo: (path, mode) => check(`mknod ${path}`, libc.mknod(path, pipe | mode, 0n)),
  };
}
