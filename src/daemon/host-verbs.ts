/** What the command line does to the database by itself, with no daemon. */
import { backUp as backUpStore } from "../store/backup.ts";
import { restore as restoreStore } from "../store/restore.ts";
import { prepareRestored } from "../work-service/restored.ts";
import { workDatabaseBeside } from "../work-service/store.ts";

export { ReplayError, replay } from "../store/replay.ts";

/** With the books of work, which lie beside it. */
export function backUp(path: string, target: string, wish: Parameters<typeof backUpStore>[2]) {
  return backUpStore(path, target, { ...wish, beside: workDatabaseBeside(path) });
}

export function restore(path: string, backup: string) {
  return restoreStore(path, backup, { file: workDatabaseBeside(path), prepare: prepareRestored });
}
