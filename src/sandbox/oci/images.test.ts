// Images in class container.

import { runImages } from "./images.testing.ts";

runImages("container");
