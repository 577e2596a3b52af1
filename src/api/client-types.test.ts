// The client's types are written by hand, so that it needs nothing of the server; this holds them against the schemas.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { Static, TSchema } from "typebox";
import type { DeployProgress } from "#control/door.ts";
import type * as Client from "#client/types.ts";
import * as schemas from "./schemas.ts";

/** Compiles only where what the schema lets out can be used as what the client promises. */
// oxlint-disable-next-line typescript/no-unnecessary-type-parameters -- the two are given apart
function promises<Promised>() {
  return <S extends TSchema>(schema: S & (Static<S> extends Promised ? unknown : never)): S => schema;
}

test("what the schemas let out is what the client promises", () => {
  const held = [
    promises<Client.IdentityView>()(schemas.IdentityView),
    promises<Client.ProjectView>()(schemas.ProjectView),
    promises<Client.WorkloadRow>()(schemas.WorkloadRow),
    promises<Client.WorkloadView>()(schemas.WorkloadView),
    promises<Client.RevisionRow>()(schemas.RevisionRow),
    promises<Client.InvocationRow>()(schemas.InvocationRow),
    promises<Client.LogRow>()(schemas.LogRow),
    promises<Client.RunRow>()(schemas.RunRow),
    promises<Client.SecretRow>()(schemas.SecretRow),
    promises<Client.SecretSet>()(schemas.SecretSet),
    promises<Client.TokenRow>()(schemas.TokenRow),
    promises<Client.UsageView>()(schemas.UsageView),
    promises<Client.AuditRow>()(schemas.AuditRow),
    promises<Client.Deployed>()(schemas.Deployed),
  ];
  // Not of a schema: the lines of a deploy are control's own words.
  const steps: (step: DeployProgress) => Client.DeployStep = (step) => step;
  assert.ok(steps);
  for (const schema of held) assert.equal(schema.type, "object");
});
