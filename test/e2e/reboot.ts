import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";

/** Makes the stopped daemon's database one that was last used in another boot of the host. The GPUs are simulated. */
export function rebootHost(folder: string): void {
  const database = new DatabaseSync(join(folder, "data", "simulated.db"));
  database.exec("UPDATE progress SET boot_id = 'the boot before'; UPDATE clock SET boot_id = 'the boot before'");
  database.close();
}
