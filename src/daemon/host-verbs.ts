/** What the command line does to the database by itself, with no daemon. */
export { backUp } from "../store/backup.ts";
export { ReplayError, replay } from "../store/replay.ts";
export { restore } from "../store/restore.ts";
