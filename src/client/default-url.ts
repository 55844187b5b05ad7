/** Where the daemon is looked for when nobody says where it is. */
import { statSync } from "node:fs";

const DEFAULT_URL = "http://127.0.0.1:8086";

/** Where the package's daemon listens for users of its host, if its settings have it so. */
export const DEFAULT_SOCKET = "/run/gpu-orchestrator/gpuo.sock";

/** The socket, where there is one: it says who calls, and without keys nothing listens elsewhere then. */
export function defaultUrl(socket = DEFAULT_SOCKET): string {
  return statSync(socket, { throwIfNoEntry: false })?.isSocket() === true ? `unix:${socket}` : DEFAULT_URL;
}
