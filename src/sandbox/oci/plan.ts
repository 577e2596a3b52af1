// What goes into a root: each runtime with just what it needs, as a list of files before anything is written.

import { readdir, readFile, realpath, stat } from "node:fs/promises";
import { join } from "node:path";
import type { RuntimeName } from "#model/workload.ts";
import { librariesOf, readElf, type Run } from "./closure.ts";
import { python, requirePython } from "../python.ts";
import { hostname, resultPath, userId } from "./config.ts";
import { framesPath } from "./gvisor.ts";

export type Entry =
  | { readonly kind: "file"; readonly source: string; readonly executable: boolean }
  | { readonly kind: "text"; readonly text: string; readonly executable: boolean }
  | { readonly kind: "folder"; readonly mode: number }
  /** Relative, and inside. */
  | { readonly kind: "link"; readonly to: string };

/** Path inside (without the leading slash) to what stands there. */
export type Plan = Map<string, Entry>;

export interface PlanSources {
  /** The Node binary of a runtime; fetched on first use. */
  readonly node: (runtime: "node22" | "node24" | "node26") => Promise<string>;
  /** The project's runtimes/ folder: the shims. */
  readonly shims: string;
  readonly run: Run;
}

/** Programs that a script or a build tool's output expects; those the machine does not have are left out. */
const tools =
  `sh dash bash cat chmod cp cut date dd df dirname basename du echo env expr false find grep egrep fgrep head hostname id
  install ln ls mkdir mkfifo mktemp mv nl nproc od paste printf printenv pwd readlink realpath rm rmdir sed seq sha256sum
  sleep sort stat stty tail tar tee test touch tr true truncate uname uniq wc which whoami xargs yes gzip gunzip awk mawk
  gawk perl`.split(/\s+/);

/** Libraries that programs built elsewhere for this kind of machine link to. */
const commonLibraries = `libstdc++.so.6 libgcc_s.so.1 libatomic.so.1 libgomp.so.1 libssl.so.3 libcrypto.so.3 libz.so.1
  libm.so.6 libdl.so.2 libpthread.so.0 librt.so.1 libresolv.so.2 libutil.so.1 libcrypt.so.1 libffi.so.8 libsqlite3.so.0
  libbz2.so.1.0 liblzma.so.5 libexpat.so.1 libuuid.so.1 libzstd.so.1 libnss_files.so.2 libnss_dns.so.2`.split(/\s+/);

/** Of the standard library: what no function runs. */
const pythonLeftOut = new Set([
  "test",
  "idlelib",
  "turtledemo",
  "tkinter",
  "lib2to3",
  "ensurepip",
  "dist-packages",
  "site-packages",
]);

/** What is in the plan and may need libraries, by the loader that finds them. */
type Needs = Map<string, string[]>;

export async function planOf(runtime: RuntimeName, sources: PlanSources): Promise<Plan> {
  const plan = base();
  const needs: Needs = new Map();
  await addTree(plan, "/usr/share/zoneinfo", "usr/share/zoneinfo", (name) => name !== "right" && name !== "posix");
  await addCertificates(plan);
  await addShims(plan, sources.shims);
  if (runtime === "node22" || runtime === "node24" || runtime === "node26") {
    await addProgram(plan, needs, await sources.node(runtime), "usr/bin/node");
    await addLibraries(plan, needs, sources.run);
  } else if (runtime === "python3") {
    await requirePython();
    await addPython(plan, needs, sources.run);
    // Wheels link to them, and glibc itself opens libgcc_s at a thread's pthread_exit.
    await addCommonLibraries(plan, needs, "usr/bin/python3", sources.run);
  } else {
    // A mount point, for what is run to its end.
    plan.set(resultPath.slice(1), text(""));
    // Any program: the shell and its tools, and the two languages that the machine has anyway.
    await addProgram(plan, needs, await sources.node("node26"), "usr/bin/node");
    if (await exists(python)) await addPython(plan, needs, sources.run);
    for (const tool of tools) {
      const source = await firstOf([`/usr/bin/${tool}`, `/bin/${tool}`]);
      if (source) await addProgram(plan, needs, source, `usr/bin/${tool}`);
    }
    await addPerl(plan);
    await addCommonLibraries(plan, needs, "usr/bin/node", sources.run);
  }
  return plan;
}

function text(content: string): Entry {
  return { kind: "text", text: content, executable: false };
}

function base(): Plan {
  const plan: Plan = new Map();
  for (const folder of ["dev", "etc", "home", "proc", "root", "run", "runtime", "sys", "usr", "var", "var/task"])
    plan.set(folder, { kind: "folder", mode: 0o755 });
  // runc gives a tmpfs the mode of the folder that it covers.
  plan.set("tmp", { kind: "folder", mode: 0o1777 });
  for (const folder of ["bin", "sbin", "lib", "lib64"]) {
    plan.set(`usr/${folder}`, { kind: "folder", mode: 0o755 });
    plan.set(folder, { kind: "link", to: `usr/${folder}` });
  }
  plan.set(
    "etc/passwd",
    text(
      `root:x:0:0:root:/root:/usr/sbin/nologin\nuser:x:${userId}:${userId}::/tmp:/bin/sh\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n`,
    ),
  );
  plan.set("etc/group", text(`root:x:0:\nuser:x:${userId}:\nnogroup:x:65534:\n`));
  plan.set("etc/hosts", text(`127.0.0.1 localhost ${hostname}\n`));
  plan.set("etc/hostname", text(`${hostname}\n`));
  plan.set("etc/nsswitch.conf", text("passwd: files\ngroup: files\nhosts: files dns\nnetworks: files\n"));
  // Mount points: which resolver serves is the link's to say; frames, where no descriptor can be passed.
  plan.set("etc/resolv.conf", text(""));
  plan.set(framesPath.slice(1), text(""));
  return plan;
}

async function addCertificates(plan: Plan): Promise<void> {
  const bundle = await firstOf(["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"]);
  if (bundle) {
    plan.set("etc/ssl/certs/ca-certificates.crt", { kind: "file", source: bundle, executable: false });
    plan.set("usr/lib/ssl/cert.pem", { kind: "link", to: "../../../etc/ssl/certs/ca-certificates.crt" });
  }
  const settings = await firstOf(["/etc/ssl/openssl.cnf"]);
  if (settings) {
    plan.set("etc/ssl/openssl.cnf", { kind: "file", source: settings, executable: false });
    plan.set("usr/lib/ssl/openssl.cnf", { kind: "link", to: "../../../etc/ssl/openssl.cnf" });
  }
  const localtime = await firstOf(["/usr/share/zoneinfo/Etc/UTC", "/usr/share/zoneinfo/UTC"]);
  if (localtime) plan.set("etc/localtime", { kind: "file", source: localtime, executable: false });
}

/** The shims are taken by content: a developer edits them in place, and a root that stands must not change. */
async function addShims(plan: Plan, folder: string): Promise<void> {
  for (const [path, real] of await filesBelow(
    folder,
    (name) => name !== "suite" && name !== "node_modules" && !name.startsWith("."),
  )) {
    if (!/\.(mjs|cjs|js|py|json|sh)$/.test(path) || /[.-]test\.|(^|\/)test_/.test(path)) continue;
    const content = await readFile(real, "utf8");
    plan.set(`runtime/${path}`, { kind: "text", text: content, executable: path.endsWith(".sh") });
  }
}

async function addPython(plan: Plan, needs: Needs, run: Run): Promise<void> {
  const program = await realpath(python);
  const { stdout } = await run([python, "-I", "-S", "-c", "import sysconfig; print(sysconfig.get_path('stdlib'))"]);
  const library = stdout.trim();
  await addProgram(plan, needs, program, "usr/bin/python3");
  plan.set(`usr/bin/${program.slice(program.lastIndexOf("/") + 1)}`, plan.get("usr/bin/python3")!);
  await addTree(plan, library, library.slice(1), (name) => !pythonLeftOut.has(name) && !name.startsWith("config-"));
  const loader = await loaderOf(program);
  for (const [path, real] of await filesBelow(join(library, "lib-dynload")).catch(() => []))
    if (path.endsWith(".so")) need(needs, loader, real);
}

/** Debian's perl-base: enough of Perl for scripts, in folders named after its version. */
async function addPerl(plan: Plan): Promise<void> {
  if (!plan.has("usr/bin/perl")) return;
  for (const folder of await readdir("/usr/lib", { withFileTypes: true })) {
    if (!folder.isDirectory() || !folder.name.endsWith("-linux-gnu")) continue;
    await addTree(plan, `/usr/lib/${folder.name}/perl-base`, `usr/lib/${folder.name}/perl-base`);
  }
}

/** Those that the machine has, found by the loader of `program`, in the folders where what is there so far needs libraries from. */
async function addCommonLibraries(plan: Plan, needs: Needs, program: string, run: Run): Promise<void> {
  await addLibraries(plan, needs, run);
  const entry = plan.get(program);
  if (entry?.kind !== "file") return;
  const loader = await loaderOf(entry.source);
  const folders = [...new Set([...plan.keys()].filter((path) => path.endsWith("/libc.so.6")))].map((path) =>
    path.slice(0, -"/libc.so.6".length),
  );
  for (const folder of folders) {
    for (const name of commonLibraries) {
      const source = await firstOf([`/${folder}/${name}`]);
      if (!source) continue;
      plan.set(`${folder}/${name}`, { kind: "file", source, executable: false });
      need(needs, loader, `/${folder}/${name}`);
    }
  }
  await addLibraries(plan, needs, run);
}

async function addProgram(plan: Plan, needs: Needs, source: string, target: string): Promise<void> {
  const real = await realpath(source);
  plan.set(target, { kind: "file", source: real, executable: true });
  const elf = await readElf(real);
  // A script: what it needs is named in its first line, and is another tool.
  if (elf?.interpreter) need(needs, elf.interpreter, real);
}

async function loaderOf(program: string): Promise<string> {
  return (await readElf(program))?.interpreter ?? "/lib64/ld-linux-x86-64.so.2";
}

function need(needs: Needs, loader: string, path: string): void {
  const paths = needs.get(loader) ?? [];
  needs.set(loader, [...paths, path]);
}

/** What is needed so far; asked for together. */
async function addLibraries(plan: Plan, needs: Needs, run: Run): Promise<void> {
  for (const [loader, paths] of needs)
    for (const library of await librariesOf(paths, loader, run)) {
      const target = merged(library);
      if (!plan.has(target)) plan.set(target, { kind: "file", source: await realpath(library), executable: true });
    }
  needs.clear();
}

/** /lib/x is /usr/lib/x in a root, whichever way the machine has it. */
function merged(path: string): string {
  return path.replace(/^\/(bin|sbin|lib|lib64)\//, "/usr/$1/").slice(1);
}

async function addTree(
  plan: Plan,
  source: string,
  target: string,
  wanted: (name: string) => boolean = () => true,
): Promise<void> {
  if (!(await exists(source))) return;
  // Links are followed: what they lead to (/etc/python3.11/sitecustomize.py) is not inside.
  for (const [path, real] of await filesBelow(source, wanted))
    plan.set(join(target, path), { kind: "file", source: real, executable: path.includes(".so") });
}

/**
 * Regular files (through links) below a folder, by relative path, each with its real one; `wanted` filters names of files and
 * folders. Links to folders are not followed, so that only a link's own path has to be looked up.
 */
async function filesBelow(
  folder: string,
  wanted: (name: string) => boolean = () => true,
): Promise<(readonly [path: string, real: string])[]> {
  const found: (readonly [string, string])[] = [];
  const visit = async (at: string, real: string): Promise<void> => {
    for (const entry of await readdir(real, { withFileTypes: true })) {
      if (!wanted(entry.name)) continue;
      const [path, place] = [join(at, entry.name), join(real, entry.name)];
      if (entry.isDirectory()) await visit(path, place);
      else if (entry.isFile()) found.push([path, place]);
      else if (entry.isSymbolicLink()) {
        const target = await firstOf([place]);
        if (target !== null) found.push([path, target]);
      }
    }
  };
  await visit("", await realpath(folder));
  return found;
}

async function firstOf(paths: readonly string[]): Promise<string | null> {
  for (const path of paths) {
    const real = await realpath(path).catch(() => null);
    if (real !== null && (await stat(real)).isFile()) return real;
  }
  return null;
}

function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
