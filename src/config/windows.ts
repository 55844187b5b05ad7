/** `windows`: GPUs that are kept for some at certain times. */
import cron from "node-cron";
import { z } from "zod";
import { PRINCIPAL_NAME } from "../core/model/ids.ts";
import { MAX_WINDOWS, type Members, type ReservedWindow } from "../core/model/policy.ts";
import { WORKLOAD_TYPES } from "../core/model/workload.ts";
import type { Path } from "./document.ts";
import { duration, integer, listOf, oneOf, type Read, Refusal, refuse, setting, show, text } from "./settings.ts";

/** Beyond that a window is as good as always open, and its calendar is long. */
const MAX_BEGINNINGS_A_DAY = 48;
const MOST_GPUS = 1_024;
const MAX_FOR = 16;

const name = text("a name of 1 to 64 of A-Z a-z 0-9 . _ -", /^[A-Za-z0-9._-]{1,64}$/);
const service = text("the name of a service", /^[A-Za-z0-9._-]{1,128}$/);
const principal = text("the name of a principal", PRINCIPAL_NAME);
const gpuName = text("a GPU's UUID or index", /^[\x21-\x7e]{1,128}$/);

/** Five fields, or a nickname such as `@daily`. */
const schedule: Read<string> = (value) => {
  const what = 'expected five fields such as "0 9 * * 1-5": minute, hour, day of month, month, day of week';
  if (typeof value !== "string") return new Refusal(`${what}; got ${show(value)}`);
  const { valid, errors, fields } = cron.validateDetailed(value);
  if (!valid || fields === undefined) {
    const wrong = errors.map(({ field, value: part }) => (part === undefined ? field : `${field} ${show(part)}`));
    return new Refusal(`${what}; got ${show(value)}, where this is wrong: ${wrong.join(", ")}`);
  }
  if (value.trim().split(/\s+/).length === 6) return new Refusal(`${what}; got six, and seconds are not among them`);
  const beginnings = fields.hour.length * fields.minute.length;
  return beginnings <= MAX_BEGINNINGS_A_DAY
    ? value
    : new Refusal(`opens ${beginnings} times a day, more than ${MAX_BEGINNINGS_A_DAY}`);
};

const timeZone: Read<string> = (value) => {
  const what = "expected the name of a time zone such as Europe/Berlin";
  if (typeof value !== "string") return new Refusal(`${what}, got ${show(value)}`);
  try {
    return new Intl.DateTimeFormat("en-US", { timeZone: value }).resolvedOptions().timeZone;
  } catch {
    return new Refusal(`${what}, got ${show(value)}`);
  }
};

const gpus: Read<number | readonly string[]> = (value) => {
  if (typeof value === "number") return integer(1, MOST_GPUS)(value);
  if (!Array.isArray(value)) {
    return new Refusal(`expected a number of GPUs, or a list of UUIDs and indices, got ${show(value)}`);
  }
  if (value.length === 0) return new Refusal("names no GPU");
  return listOf(gpuName)(value.map((item) => (Number.isInteger(item) ? String(item) : item)));
};

const members = z
  .strictObject(
    {
      services: setting(listOf(service), []),
      principals: setting(listOf(principal), []),
      workload_types: setting(listOf(oneOf(WORKLOAD_TYPES)), []),
    },
    { error: (issue) => `expected services, principals or workload_types below it, got ${show(issue.input)}` },
  )
  .transform(({ services, principals, workload_types: workloadTypes }, context): Members => {
    // A key that was not known may have been one of the three.
    if (services.length + principals.length + workloadTypes.length === 0 && context.issues.length === 0) {
      refuse(context, new Refusal("is for nobody: it needs services, principals or workload_types"));
    }
    return { services, principals, workloadTypes };
  });

/** One kind of members, or a list of such. */
const membership = z
  .preprocess(
    (value) => (Array.isArray(value) ? value : [value]),
    z.array(members).min(1, "is for nobody: it has no items").max(MAX_FOR, `holds more than ${MAX_FOR} items`),
  )
  .prefault({});

const windowItem = z.strictObject(
  {
    name: setting(name, null),
    schedule: setting(schedule, null),
    time_zone: setting(timeZone, null),
    duration: setting(duration("1m", "31d"), null),
    gpus: setting(gpus, null),
    for: membership,
  },
  {
    error: (issue) =>
      `expected a window with its name, schedule, time_zone, duration, gpus and for, got ${show(issue.input)}`,
  },
);

/** The keys that may stand below `path`, which leads from the list on. */
export function windowKeysAt(path: Path): readonly string[] {
  if (path.length === 1) return Object.keys(windowItem.shape);
  return path[1] === "for" && path.length > 1 ? ["services", "principals", "workload_types"] : [];
}

export function windows() {
  return z
    .unknown()
    .transform((value, context): readonly ReservedWindow[] => {
      if (value === null || value === undefined) return [];
      if (!Array.isArray(value)) {
        refuse(context, new Refusal(`expected a list of windows, got ${show(value)}`));
        return z.NEVER;
      }
      if (value.length > MAX_WINDOWS) {
        refuse(context, new Refusal(`holds ${value.length} windows, more than ${MAX_WINDOWS}`));
        return z.NEVER;
      }
      const read: ReservedWindow[] = [];
      const named = new Map<string, number>();
      for (const [index, item] of value.entries()) {
        const result = windowItem.safeParse(item);
        for (const issue of result.error?.issues ?? []) context.addIssue({ ...issue, path: [index, ...issue.path] });
        const called: unknown = item?.name;
        if (typeof called === "string") {
          const first = named.get(called);
          if (first === undefined) named.set(called, index);
          else refuse(context, new Refusal(`window ${first} has that name`, null, [index, "name"]));
        }
        if (result.success) read.push(toWindow(result.data));
      }
      return read;
    })
    .prefault([]);
}

function toWindow(item: z.output<typeof windowItem>): ReservedWindow {
  return {
    name: item.name,
    schedule: item.schedule,
    timeZone: item.time_zone,
    durationMs: item.duration,
    gpus: item.gpus,
    members: item.for,
    spans: [],
  };
}
