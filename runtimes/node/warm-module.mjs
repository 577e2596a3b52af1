// What the rehearsal loads in place of a function: an ES module in web style.

import { Response } from "./web-response.mjs";

export default () => new Response("warm");
