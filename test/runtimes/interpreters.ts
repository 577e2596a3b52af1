// Where the tests keep versions of Node that they have fetched: each is 50 MB to fetch, and outlives a run.

import { join } from "node:path";
import { installation } from "#config.ts";

/** Where npm's own tools cache. */
export const interpretersFolder = join(installation, "node_modules/.cache/ebb-interpreters");
