// The long form of sqlite.test.ts: the whole suite in the worker thread, each behaviour in one of its own.

import { storeSuite } from "../suite.ts";
import { inItsWorker } from "./stores.testing.ts";

storeSuite("sqlite in its worker", inItsWorker);
