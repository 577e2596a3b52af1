// The filter that ebb has made of its profile, run as the kernel runs it: for every call and any arguments it answers what the profile says.

import assert from "node:assert/strict";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import fc from "fast-check";
import { compileSeccomp } from "./seccomp-filter.ts";
import { seccompProfile, type SeccompArgument, type SeccompProfile } from "./seccomp.ts";

const architecture = process.arch === "arm64" ? "arm64" : "x64";
const profile = seccompProfile(architecture);
const auditArch = { x64: 0xc000003e, arm64: 0xc00000b7 } as const;
const i386 = 0x40000003;
const killed = 0x00000000;
const allowed = 0x7fff0000;
const refusedWith = (errno: number): number => 0x00050000 + errno;

const numberOf = await numbers();
const skip = numberOf === null ? "there is no libseccomp here" : false;

function programOf(of: SeccompProfile, scratch: string): Buffer | null {
  const { program } = compileSeccomp(of, scratch);
  return program === null ? null : Buffer.from(program, "base64");
}

function folderOf(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), "ebb-seccomp-"));
  t.after(() => rmSync(folder, { recursive: true }));
  return folder;
}

test("it answers as the profile does, whatever is called with whatever arguments", { skip }, (t) => {
  const scratch = join(folderOf(t), "filter");
  const program = programOf(profile, scratch)!;
  assert.ok(!existsSync(scratch));
  const named = [...new Set(profile.syscalls.flatMap(({ names }) => names))].filter((name) => numberOf!(name) >= 0);
  assert.ok(named.length > 250, `${named.length} calls are known here`);
  const zeros = [0n, 0n, 0n, 0n, 0n, 0n];
  for (const name of named) assert.equal(run(program, numberOf!(name), zeros), answerOf(profile, name, zeros), name);
  const compared = profile.syscalls.filter(({ args }) => args).flatMap(({ names }) => names);
  const near = profile.syscalls.flatMap(({ args = [] }) =>
    args.flatMap(({ value, valueTwo = 0 }) => [value, valueTwo]),
  );
  const value = fc.oneof(
    fc.constantFrom(...near.map(BigInt)),
    // One bit aside, low or high.
    fc.tuple(fc.constantFrom(...near.map(BigInt)), fc.nat(63)).map(([of, bit]) => of ^ (1n << BigInt(bit))),
    fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
  );
  const call = fc.record({
    name: fc.oneof(fc.constantFrom(...compared), fc.constantFrom(...named)),
    args: fc.array(value, { minLength: 6, maxLength: 6 }),
  });
  fc.assert(
    fc.property(call, ({ name, args }) => {
      if (numberOf!(name) < 0) return;
      assert.equal(run(program, numberOf!(name), args), answerOf(profile, name, args));
    }),
    { numRuns: 3_000 },
  );
});

test("what nobody names is not there, and callers of another ABI are killed", { skip }, (t) => {
  const program = programOf(profile, join(folderOf(t), "filter"))!;
  const zeros = [0n, 0n, 0n, 0n, 0n, 0n];
  const known = new Set(profile.syscalls.flatMap(({ names }) => names).map((name) => numberOf!(name)));
  for (let number = 0; number < 1_024; number++)
    if (!known.has(number)) assert.equal(run(program, number, zeros), refusedWith(38), String(number));
  assert.equal(run(program, numberOf!("read"), zeros, i386), killed);
  // x32 comes as x86-64, with a bit of its own in the number.
  if (architecture === "x64") assert.notEqual(run(program, 0x4000_0000 + numberOf!("read"), zeros), allowed);
});

test("a profile that libseccomp does not take is left to the engine, and leaves no file", { skip }, (t) => {
  const scratch = join(folderOf(t), "filter");
  const seven = {
    names: ["read"],
    action: "SCMP_ACT_ALLOW",
    args: [{ index: 6, value: 0, op: "SCMP_CMP_EQ" }],
  } as const;
  assert.equal(programOf({ ...profile, syscalls: [seven] }, scratch), null);
  assert.ok(!existsSync(scratch));
  assert.equal(programOf(profile, join(scratch, "below-nothing")), null);
});

/** By the rules, as the specification of runtimes has them: the arguments of one are all compared, and any that holds decides. */
function answerOf({ syscalls, defaultErrnoRet }: SeccompProfile, name: string, args: readonly bigint[]): number {
  const rule = syscalls.find((one) => one.names.includes(name) && (one.args ?? []).every((arg) => holds(arg, args)));
  if (rule?.action === "SCMP_ACT_ALLOW") return allowed;
  return refusedWith((rule ? rule.errnoRet : defaultErrnoRet)!);
}

function holds({ index, op, value, valueTwo = 0 }: SeccompArgument, args: readonly bigint[]): boolean {
  const argument = args[index]!;
  return op === "SCMP_CMP_EQ" ? argument === BigInt(value) : (argument & BigInt(value)) === BigInt(valueTwo);
}

/** Classic BPF on struct seccomp_data (<linux/seccomp.h>): what libseccomp makes use of. */
function run(program: Buffer, number: number, args: readonly bigint[], arch: number = auditArch[architecture]): number {
  const data = Buffer.alloc(64);
  data.writeUInt32LE(number, 0);
  data.writeUInt32LE(arch, 4);
  for (const [index, value] of args.entries()) data.writeBigUInt64LE(value, 16 + 8 * index);
  let accumulator = 0;
  for (let at = 0; ; at++) {
    const code = program.readUInt16LE(8 * at);
    const [yes, no] = [program[8 * at + 2]!, program[8 * at + 3]!];
    const k = program.readUInt32LE(8 * at + 4);
    const jump = (holds: boolean): void => void (at += holds ? yes : no);
    if (code === 0x20) accumulator = data.readUInt32LE(k);
    else if (code === 0x54) accumulator = (accumulator & k) >>> 0;
    else if (code === 0x05) at += k;
    else if (code === 0x15) jump(accumulator === k);
    else if (code === 0x25) jump(accumulator > k);
    else if (code === 0x35) jump(accumulator >= k);
    else if (code === 0x45) jump((accumulator & k) !== 0);
    else if (code === 0x06) return k;
    else throw new Error(`an instruction that nobody knows: ${code}`);
  }
}

async function numbers(): Promise<((name: string) => number) | null> {
  try {
    const ffi = await import("node:ffi");
    const { functions } = ffi.dlopen("libseccomp.so.2", {
      seccomp_syscall_resolve_name: { arguments: ["string"], return: "i32" },
    });
    return (name) => functions.seccomp_syscall_resolve_name(name);
  } catch {
    return null;
  }
}
