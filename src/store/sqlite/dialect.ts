// Kysely's SQLite dialect over node:sqlite: prepared statements, kept.

import type { DatabaseSync, SQLInputValue, StatementSync } from "node:sqlite";
import { SqliteDialect } from "kysely";

/** More different statements than the store has; beyond it the oldest is dropped. */
const statementsKept = 200;

type Bound = readonly unknown[];

/** Kysely asks a statement whether it returns rows; node:sqlite says so by its columns. */
class Statement {
  readonly #statement: StatementSync;
  readonly reader: boolean;

  constructor(statement: StatementSync) {
    this.#statement = statement;
    this.reader = statement.columns().length > 0;
  }
  all(parameters: Bound): unknown[] {
    return this.#statement.all(...(parameters as SQLInputValue[]));
  }
  run(parameters: Bound): { changes: number | bigint; lastInsertRowid: number | bigint } {
    return this.#statement.run(...(parameters as SQLInputValue[]));
  }
  iterate(parameters: Bound): IterableIterator<unknown> {
    return this.#statement.iterate(...(parameters as SQLInputValue[]));
  }
}

export class NodeSqlite {
  readonly #database: DatabaseSync;
  readonly #statements = new Map<string, Statement>();

  constructor(database: DatabaseSync) {
    this.#database = database;
  }

  prepare(sql: string): Statement {
    // SQLite rolls back by itself when the disk is full; a second rollback would hide the reason.
    if (sql === "rollback" && !this.#database.isTransaction) sql = "select 1";
    const kept = this.#statements.get(sql);
    if (kept) return kept;
    const statement = new Statement(this.#database.prepare(sql));
    if (this.#statements.size >= statementsKept) this.#statements.delete(this.#statements.keys().next().value!);
    this.#statements.set(sql, statement);
    return statement;
  }

  /** Frees all that SQLite keeps and does not need. */
  shrink(): void {
    this.#database.exec("pragma shrink_memory");
  }

  close(): void {
    this.#statements.clear();
    this.#database.close();
  }
}

export function nodeSqliteDialect(database: NodeSqlite): SqliteDialect {
  return new SqliteDialect({ database });
}
