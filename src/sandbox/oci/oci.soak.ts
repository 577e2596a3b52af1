// The long form of oci.test.ts: the whole suite by the engine that has only what depends on it there.

import { engineGround, runEngineSuite } from "./engines.testing.ts";

runEngineSuite("runc", engineGround());
