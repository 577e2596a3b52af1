// As many idle connections as ebb is meant to keep, and slow ones beside them.

import { crowdTest } from "./crowds.testing.ts";

crowdTest(10_000, 1_000);
