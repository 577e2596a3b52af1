// Checks requests against their schemas, and says in one sentence what was expected where; answers carry what their schemas name.

import type { FastifySchemaCompiler, FastifyServerOptions } from "fastify";
import type { FastifySerializerCompiler } from "fastify/types/schema.js";
import { EbbError } from "#model/errors.ts";
import { fromText, mismatch, named, type JsonSchema } from "./json-schema.ts";

/** Query and path are text, so "5" counts as a number there; in a body it does not. */
const compileValidator: FastifySchemaCompiler<JsonSchema> = ({ schema, httpPart }) => {
  const part = httpPart === "querystring" ? "query" : httpPart === "params" ? "path" : (httpPart ?? "body");
  return (value: unknown) => {
    const converted = httpPart === "body" ? value : fromText(schema, value);
    const found = mismatch(schema, converted);
    if (!found) return { value: converted };
    return { error: new EbbError("bad_request", `${[part, ...found.path].join(".")}: ${found.words}`.slice(0, 500)) };
  };
};

const compileSerializer: FastifySerializerCompiler<JsonSchema> =
  ({ schema }) =>
  (value: unknown) =>
    JSON.stringify(named(schema, value));

type Factories = NonNullable<NonNullable<FastifyServerOptions["schemaController"]>["compilersFactory"]>;

// oxlint-disable-next-line typescript/no-unsafe-type-assertion -- fastify types them as those of ajv that they stand in for
export const compilersFactory = {
  buildValidator: () => compileValidator,
  buildSerializer: () => compileSerializer,
} as unknown as Factories;
