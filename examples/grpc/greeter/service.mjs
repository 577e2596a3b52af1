// The service as grpc-js wants it, for the server and for its client.

import { fileURLToPath } from "node:url";
import { loadPackageDefinition } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

const proto = fileURLToPath(new URL("greeter.proto", import.meta.url));

export const { Greeter } = loadPackageDefinition(loadSync(proto, { keepCase: false })).greeter;
