// Every change of the schema, in order. Numbers are for ever: never edit one that was released, add the next.

import type { Kysely } from "kysely";
import * as first from "./0001-first.ts";
import * as recordBlocks from "./0002-record-blocks.ts";
import * as runs from "./0003-runs.ts";

export interface Migration {
  readonly number: number;
  readonly name: string;
  up(db: Kysely<unknown>): Promise<void>;
}

export const migrations: readonly Migration[] = [
  { number: 1, name: "first", up: first.up },
  { number: 2, name: "record-blocks", up: recordBlocks.up },
  { number: 3, name: "runs", up: runs.up },
];
