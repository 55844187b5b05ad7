import { readFileSync } from "node:fs";

const BOOT_ID_FILE = "/proc/sys/kernel/random/boot_id";

/** Tells one boot of the host from another (Linux, random(4)). Elsewhere every boot looks the same. */
export function readBootId(): string {
  try {
    return readFileSync(BOOT_ID_FILE, "utf8").trim();
  } catch {
    return "unknown";
  }
}
