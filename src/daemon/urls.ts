// Where things answer, as users see it: by host name under BASE, and by path on the platform's own host.

import { defaultProject } from "#model/names.ts";
import type { WorkloadKey } from "#model/workload.ts";

export interface Urls {
  /** To be called once it is known what is listened on; answers the URL that `ready` prints. */
  listening(host: string, port: number): string;
  of(key: WorkloadKey): { readonly url: string; readonly pathUrl: string };
}

export function createUrls(baseUrl: URL | null): Urls {
  let base = baseUrl ?? new URL("http://localhost");
  let path = base.origin;
  return {
    listening(host, port) {
      // Whoever listens on every address is reached by the machine itself on loopback.
      const reachable = host === "0.0.0.0" ? "127.0.0.1" : host === "::" ? "::1" : host;
      const url = `http://${reachable.includes(":") ? `[${reachable}]` : reachable}:${port}`;
      if (!baseUrl) base = new URL(`http://localhost:${port}`);
      path = baseUrl ? baseUrl.origin : url;
      return url;
    },
    of({ project, workload }) {
      const label = project === defaultProject ? workload : `${workload}--${project}`;
      return { url: `${base.protocol}//${label}.${base.host}`, pathUrl: `${path}/run/${project}/${workload}` };
    },
  };
}
