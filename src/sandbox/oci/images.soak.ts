// Images in class gvisor: some seconds of processor time, most of them runsc's own.

import { runImages } from "./images.testing.ts";

runImages("gvisor");
