/** All planted bugs, and whether they still are bugs of this program. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { ANALYZER_MUTANTS } from "./analyzer-mutants.ts";
import { CANDIDATE_MUTANTS } from "./candidate-mutants.ts";
import { CLI_MUTANTS } from "./cli-mutants.ts";
import { CONTROLLER_CLUSTER_MUTANTS } from "./controller-cluster-mutants.ts";
import { CONTROLLER_DATABASE_MUTANTS } from "./controller-database-mutants.ts";
import { CONTROLLER_FIELDS_MUTANTS } from "./controller-fields-mutants.ts";
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

export const MUTANTS: readonly Mutant[] = [
  ...ANALYZER_MUTANTS,
  ...CANDIDATE_MUTANTS,
  ...CLI_MUTANTS,
  ...CONTROLLER_CLUSTER_MUTANTS,
  ...CONTROLLER_FIELDS_MUTANTS,
  ...CONTROLLER_DATABASE_MUTANTS,
  ...CONTROLLER_MUTANTS,
  ...CORE_MUTANTS,
  ...CRASH_MUTANTS,
  ...DOOR_MUTANTS,
  ...FOREIGN_MUTANTS,
  ...HEALTH_MUTANTS,
  ...HOST_MUTANTS,
  ...LEAVING_MUTANTS,
  ...MCP_MUTANTS,
  ...MIG_MUTANTS,
  ...PAGE_MUTANTS,
  ...PEOPLE_MUTANTS,
  ...QUEUE_MUTANTS,
  ...QUOTA_MUTANTS,
  ...REPLAY_MUTANTS,
  ...ROOM_MUTANTS,
  ...SEVERAL_HOSTS_MUTANTS,
  ...SHARING_MUTANTS,
  ...TOPOLOGY_MUTANTS,
  ...UPKEEP_MUTANTS,
  ...USAGE_MUTANTS,
  ...WINDOW_MUTANTS,
  ...WORK_MUTANTS,
];

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
