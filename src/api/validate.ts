// Checks requests against their schemas, and says in one sentence what was expected where.

import type { FastifySchemaCompiler } from "fastify";
import { Compile } from "typebox/compile";
import { Value } from "typebox/value";
import type { TSchema } from "typebox";
import { EbbError } from "#model/errors.ts";

/** Query and path are text, so "5" counts as a number there; in a body it does not. */
export const compileValidator: FastifySchemaCompiler<TSchema> = ({ schema, httpPart }) => {
  const check = Compile(schema);
  const part = httpPart === "querystring" ? "query" : httpPart === "params" ? "path" : (httpPart ?? "body");
  return (value: unknown) => {
    const converted = httpPart === "body" ? value : Value.Convert(schema, value);
    if (check.Check(converted)) return { value: converted };
    const first = check.Errors(converted)[0];
    const where = [part, ...(first?.instancePath ?? "").split("/").filter((step) => step !== "")].join(".");
    const extra = first?.keyword === "additionalProperties" ? unknownKeys(first.params) : "";
    return {
      error: new EbbError("bad_request", `${where}: ${first?.message ?? "not as expected"}${extra}`.slice(0, 500)),
    };
  };
};

function unknownKeys(params: object): string {
  const names: unknown = "additionalProperties" in params ? params.additionalProperties : null;
  return Array.isArray(names) ? `: ${names.join(", ")}` : "";
}
