/** What the daemon shows itself with over TLS. */
import { readFileSync } from "node:fs";
import type { Config } from "../config/config.ts";
import type { Certificate } from "../http/server.ts";

/** @throws when a file cannot be read, or the two do not belong together. */
export function certificateOf({ tls }: Pick<Config["server"], "tls">): Certificate | null {
  if (tls === null) return null;
  const certificate = { cert: readFileSync(tls.cert), key: readFileSync(tls.key) };
  process.getBuiltinModule("node:tls").createSecureContext(certificate);
  return certificate;
}
