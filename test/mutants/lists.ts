/** All planted bugs, and whether they still are bugs of this program. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { ANALYZER_MUTANTS } from "./analyzer-mutants.ts";
import { CANDIDATE_MUTANTS } from "./candidate-mutants.ts";
import { CLI_MUTANTS } from "./cli-mutants.ts";
import { CONTROLLER_CLUSTER_MUTANTS } from "./controller-cluster-mutants.ts";
import { CONTROLLER_DATABASE_MUTANTS } from "./controller-database-mutants.ts";
import { CONTROLLER_FIELDS_MUTANTS } from "./controller-fields-mutants.ts";
import { CONTROLLER_HOSTILE_MUTANTS } from "./controller-hostile-mutants.ts";
import { CONTROLLER_MUTANTS } from "./controller-mutants.ts";
import { CORE_MUTANTS } from "./core-mutants.ts";
import { CRASH_MUTANTS } from "./crash-mutants.ts";
import { DOOR_MUTANTS } from "./door-mutants.ts";
import { FOREIGN_MUTANTS } from "./foreign-mutants.ts";
import { HEALTH_MUTANTS } from "./health-mutants.ts";
import { HOST_MUTANTS } from "./host-mutants.ts";
import { LEAVING_MUTANTS } from "./leaving-mutants.ts";
import { MCP_MUTANTS } from "./mcp-mutants.ts";
import { MIG_MUTANTS } from "./mig-mutants.ts";
import type { Mutant } from "./mutant.ts";
import { PAGE_MUTANTS } from "./page-mutants.ts";
import { PEOPLE_MUTANTS } from "./people-mutants.ts";
import { QUEUE_MUTANTS } from "./queue-mutants.ts";
import { QUOTA_MUTANTS } from "./quota-mutants.ts";
import { REPLAY_MUTANTS } from "./replay-mutants.ts";
import { ROOM_MUTANTS } from "./room-mutants.ts";
import { SEVERAL_HOSTS_MUTANTS } from "./several-hosts-mutants.ts";
import { SHARING_MUTANTS } from "./sharing-mutants.ts";
import { TOPOLOGY_MUTANTS } from "./topology-mutants.ts";
import { UPKEEP_MUTANTS } from "./upkeep-mutants.ts";
import { USAGE_MUTANTS } from "./usage-mutants.ts";
import { WINDOW_MUTANTS } from "./windows-mutants.ts";
import { WORK_MUTANTS } from "./work-mutants.ts";

/** By the name of their file, by which `npm run test:mutants` chooses them too. */
export const LISTS: Readonly<Record<string, readonly Mutant[]>> = {
  analyzer: ANALYZER_MUTANTS,
  candidate: CANDIDATE_MUTANTS,
  cli: CLI_MUTANTS,
  "controller-cluster": CONTROLLER_CLUSTER_MUTANTS,
  "controller-fields": CONTROLLER_FIELDS_MUTANTS,
  "controller-hostile": CONTROLLER_HOSTILE_MUTANTS,
  "controller-database": CONTROLLER_DATABASE_MUTANTS,
  controller: CONTROLLER_MUTANTS,
  core: CORE_MUTANTS,
  crash: CRASH_MUTANTS,
  door: DOOR_MUTANTS,
  foreign: FOREIGN_MUTANTS,
  health: HEALTH_MUTANTS,
  host: HOST_MUTANTS,
  leaving: LEAVING_MUTANTS,
  mcp: MCP_MUTANTS,
  mig: MIG_MUTANTS,
  page: PAGE_MUTANTS,
  people: PEOPLE_MUTANTS,
  queue: QUEUE_MUTANTS,
  quota: QUOTA_MUTANTS,
  replay: REPLAY_MUTANTS,
  room: ROOM_MUTANTS,
  "several-hosts": SEVERAL_HOSTS_MUTANTS,
  sharing: SHARING_MUTANTS,
  topology: TOPOLOGY_MUTANTS,
  upkeep: UPKEEP_MUTANTS,
  usage: USAGE_MUTANTS,
  windows: WINDOW_MUTANTS,
  work: WORK_MUTANTS,
};

export const MUTANTS: readonly Mutant[] = Object.values(LISTS).flat();

/** What is wrong with the lists themselves: each line is one mutant that must be brought up to date. */
export function outOfDate(folder: string, mutants: readonly Mutant[]): string[] {
  const problems: string[] = [];
  const names = new Set<string>();
  for (const { name, file, find, replace } of mutants) {
    const count = readFileSync(join(folder, file), "utf8").split(find).length - 1;
    if (count !== 1) problems.push(`out of date: "${name}": its text stands ${count} times in ${file}, not once`);
    if (find === replace) problems.push(`"${name}" changes nothing`);
    if (names.has(name)) problems.push(`"${name}" is there twice`);
    names.add(name);
  }
  return problems;
}
