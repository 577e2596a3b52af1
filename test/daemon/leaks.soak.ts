// The long form of what leaks.ts looks for.

import { givesBack } from "./leaks.ts";

givesBack(500, 10);
