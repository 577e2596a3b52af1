// Idle connections and slow ones, few enough for every run of the tests; the soak has as many as ebb is meant to keep.

import { crowdTest } from "./crowds.testing.ts";

crowdTest(1_000, 100);
