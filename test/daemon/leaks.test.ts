// The short form of what leaks.ts looks for; leaks.soak.ts is the long one.

import { givesBack } from "./leaks.ts";

givesBack(2, 1);
