// The seccomp profile in the kernel's own form, made once by libseccomp: an engine makes it again for each sandbox, which is a third of
// the processor time of a start.

import { closeSync, openSync, readFileSync, unlinkSync } from "node:fs";
import type { SeccompProfile, SeccompRule } from "./seccomp.ts";

/** <seccomp.h> of libseccomp 2. */
const allowed = 0x7fff0000;
const refused = 0x00050000;
const unknownName = -1;
/** SCMP_FLTATR_CTL_OPTIMIZE: the kernel runs a filter once for each system call there is when it is set, with interrupts off. */
const searchAttribute = 8;
const binaryTree = 2;
/** What answers as everything that is not named does needs no rule. */
const sameAsDefault = -13;
const comparison = { SCMP_CMP_EQ: 4, SCMP_CMP_MASKED_EQ: 7 } as const;
/** struct scmp_arg_cmp: index, comparison, two values. */
const argument = { bytes: 24, comparisonAt: 4, valueAt: 8, valueTwoAt: 16 } as const;
/** struct sock_filter, and as many as a program may have (BPF_MAXINSNS). */
const instructionBytes = 8;
const maxInstructions = 4_096;

export interface Seccomp {
  readonly profile: SeccompProfile;
  /** An array of struct sock_filter, in base64; null: the engine makes it of the profile. */
  readonly program: string | null;
}

/** Without a program where there is no libseccomp or no node:ffi, or it does not take the profile. `scratch` is a file that is made and removed. */
export function compileSeccomp(profile: SeccompProfile, scratch: string): Seccomp {
  try {
    const ffi = process.getBuiltinModule("node:ffi");
    return { profile, program: compiled(functionsOf(ffi), profile, scratch).toString("base64") };
  } catch {
    // The engine will say what it does not take.
    return { profile, program: null };
  }
}

function compiled(lib: Library, profile: SeccompProfile, scratch: string): Buffer {
  const filter = lib.seccomp_init(actionOf(profile.defaultAction, profile.defaultErrnoRet));
  if (filter === 0n) throw new Error("seccomp_init failed");
  try {
    // From libseccomp 2.5 on; before that, a filter of comparisons one after the other does the same.
    lib.seccomp_attr_set(filter, searchAttribute, binaryTree);
    for (const rule of profile.syscalls) for (const name of rule.names) add(lib, filter, rule, name);
    return exported(lib, filter, scratch);
  } finally {
    lib.seccomp_release(filter);
  }
}

type Library = ReturnType<typeof functionsOf>;

function functionsOf(ffi: typeof import("node:ffi")) {
  return ffi.dlopen("libseccomp.so.2", {
    seccomp_init: { arguments: ["u32"], return: "pointer" },
    seccomp_attr_set: { arguments: ["pointer", "u32", "u32"], return: "i32" },
    seccomp_release: { arguments: ["pointer"], return: "void" },
    seccomp_syscall_resolve_name: { arguments: ["string"], return: "i32" },
    seccomp_rule_add_array: { arguments: ["pointer", "u32", "i32", "u32", "buffer"], return: "i32" },
    seccomp_export_bpf: { arguments: ["pointer", "i32"], return: "i32" },
  }).functions;
}

function add(lib: Library, filter: bigint, { action, errnoRet, args = [] }: SeccompRule, name: string): void {
  const number = lib.seccomp_syscall_resolve_name(name);
  // Younger than the library: what nobody names is answered as the profile says.
  if (number === unknownName) return;
  const compared = Buffer.alloc(Math.max(1, args.length) * argument.bytes);
  for (const [at, { index, op, value, valueTwo = 0 }] of args.entries()) {
    const start = at * argument.bytes;
    compared.writeUInt32LE(index, start);
    compared.writeUInt32LE(comparison[op], start + argument.comparisonAt);
    compared.writeBigUInt64LE(BigInt(value), start + argument.valueAt);
    compared.writeBigUInt64LE(BigInt(valueTwo), start + argument.valueTwoAt);
  }
  const code = lib.seccomp_rule_add_array(filter, actionOf(action, errnoRet), number, args.length, compared);
  if (code !== 0 && code !== sameAsDefault) throw new Error(`libseccomp refuses the rule for ${name} (${code})`);
}

function exported(lib: Library, filter: bigint, scratch: string): Buffer {
  const fd = openSync(scratch, "wx", 0o600);
  try {
    const code = lib.seccomp_export_bpf(filter, fd);
    const program = readFileSync(scratch);
    const instructions = program.length / instructionBytes;
    if (code !== 0 || instructions < 1 || instructions > maxInstructions || !Number.isInteger(instructions))
      throw new Error(`libseccomp made no filter (${code}, ${program.length} bytes)`);
    return program;
  } finally {
    closeSync(fd);
    unlinkSync(scratch);
  }
}

function actionOf(action: SeccompRule["action"], errno = 1): number {
  return action === "SCMP_ACT_ALLOW" ? allowed : refused + errno;
}
