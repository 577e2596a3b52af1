// Python's bytecode of the shim in a root: nothing in a sandbox may write it there, and compiling was a quarter of a start's CPU.

import { join } from "node:path";

/** As it will be found in a sandbox, and believed: a root never changes. */
const compile = `
import os, py_compile, sys
folder, seen = sys.argv[1:]
os.umask(0o022)
for name in os.listdir(folder):
    if name.endswith(".py"):
        py_compile.compile(os.path.join(folder, name), dfile=os.path.join(seen, name), doraise=True,
                           invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
`;

export type Exec = (argv: readonly string[]) => Promise<unknown>;

/** By the interpreter that the root has. Where that cannot be, each start compiles for itself. */
export async function compilePython(root: string, python: string, exec: Exec): Promise<void> {
  const shim = "runtime/python";
  await exec([python, "-I", "-S", "-c", compile, join(root, shim), `/${shim}`]).catch(() => {});
}
