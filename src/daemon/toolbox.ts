// Where the programs that builds run in a sandbox are found: our own, and esbuild as npm installed it for this machine.

import { createRequire } from "node:module";
import { dirname, join } from "node:path";

export interface ToolboxPlaces {
  readonly node: string;
  readonly programs: string;
  readonly esbuild: string;
  readonly esbuildProgram: string;
}

export function findToolbox(installation: string): ToolboxPlaces {
  const require = createRequire(join(installation, "package.json"));
  const folderOf = (name: string): string => dirname(require.resolve(`${name}/package.json`));
  return {
    node: "/usr/bin/node",
    programs: join(installation, "src/builds/toolbox"),
    esbuild: folderOf("esbuild"),
    esbuildProgram: folderOf(`@esbuild/${process.platform}-${process.arch}`),
  };
}
