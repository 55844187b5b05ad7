import { type Mutant, planted } from "./mutant.ts";

const WINDOWS = "test/core/queue/windows.test.ts";
const HISTORIES = "test/core/queue/windows-histories.test.ts";
const RUNNING = "test/scheduler/windows.test.ts";
const CALENDAR = "test/platform/calendar.test.ts";

const KEEPING = planted(
  "src/core/queue/window-allowances.ts",
  [HISTORIES],
  [
    {
      name: "Of windows that are open together only the largest counts",
      find: "const demanded = demands.reduce((sum, each) => sum + each, 0);",
      replace: "const demanded = Math.max(...demands);",
    },
    {
      name: "Leases that last into a window are not counted against what it leaves",
      find: "const lasting = occupancies.filter(({ emptyFrom }) => emptyFrom > at);",
      replace: "const lasting = occupancies.filter(({ emptyFrom }) => emptyFrom < at);",
    },
    {
      name: "Only the first window that a lease can last into counts",
      find: "steps.sort((a, b) => a.at - b.at);",
      replace: "steps.sort((a, b) => a.at - b.at).splice(1);",
    },
    {
      name: "Named GPUs are kept from nobody",
      find: "if (open & ~member & (1 << index)) for (const uuid of named) closed.add(uuid);",
      replace: "if (open & ~member & (1 << index)) for (const uuid of named) closed.delete(uuid);",
    },
    {
      name: "A window's own members are kept from its GPUs",
      find: "const against = open & ~member;",
      replace: "const against = open;",
    },
  ],
);

const SERVING = planted(
  "src/core/queue/schedule.ts",
  [WINDOWS, HISTORIES],
  [
    {
      name: "What is held for an outsider holds a window's GPUs too",
      find: "const kept = new Set(wanted.map(({ gpu }) => gpu.uuid).filter((uuid) => !gpus.has(uuid)));",
      replace: "const kept = new Set<GpuUuid>();",
    },
    {
      name: "GPUs that are held for somebody count as free for others",
      find: "this.#reserved.free.push(occupancy);",
      replace: "",
    },
  ],
);

const COUNTING = planted(
  "src/scheduler/window-calendar.ts",
  [RUNNING],
  [
    {
      name: "A wall clock that is set moves no window",
      find: "return Math.abs(this.#wallAheadMs() - this.#aheadMs) >= STEP_MS;",
      replace: "return false;",
    },
    {
      name: "Openings that overlap are told twice",
      find: "if (last !== undefined && from <= last.to) last.to = from + durationMs;",
      replace: "if (last !== undefined && from < last.from) last.to = from + durationMs;",
    },
    {
      name: "The calendar is counted out once and never again",
      find: "windows !== this.#told || now - this.#toldAt >= FRESH_MS",
      replace: "windows !== this.#told",
    },
  ],
);

const CLOCKS = planted(
  "src/platform/calendar.ts",
  [CALENDAR],
  [
    {
      name: "A beginning in the hour that summer time skips is left out",
      find: "return goesByHours ? [] : [changeBetween(local - DAY_MS, local + DAY_MS, offsetAt)];",
      replace: "return [];",
    },
    {
      name: "A schedule opens on any day of the week",
      find: "return isInMonth && dayOfMonth.includes(date.getUTCDate()) && dayOfWeek.includes(date.getUTCDay());",
      replace: "return isInMonth && dayOfMonth.includes(date.getUTCDate());",
    },
    {
      name: "A beginning in the hour that comes twice comes twice",
      find: "return goesByHours ? shown : shown.slice(0, 1);",
      replace: "return shown;",
    },
  ],
);

const WAKING = planted(
  "src/scheduler/pulse.ts",
  [RUNNING],
  [
    {
      name: "When a window closes, nobody looks at the queue",
      find: "const at = Math.min(due, change) === Infinity ? null : Math.min(due, change);",
      replace: "const at = due === Infinity || change < 0 ? null : due;",
    },
  ],
);

const BOOKING = planted(
  "src/core/decisions/book.ts",
  ["test/core/decisions/book.test.ts"],
  [
    {
      name: "A booking is taken on that lacks GPUs while it is open",
      find: "const lacking = fallingShort(before, after, now);",
      replace: "const lacking = fallingShort(after, before, now);",
    },
    {
      name: "A booking puts off a head that was told when it starts",
      find: "const id = putOff(before, after, now);",
      replace: "const id = putOff(after, after, now);",
    },
    {
      name: "A booking names GPUs that are leased beyond its start",
      find: "return emptyFrom > booking.from &&",
      replace: "return emptyFrom < booking.from &&",
    },
    {
      name: "Bookings that overlap do not add up for a quota",
      find: "const booked = mostAtOnce(sameAccount, booking);",
      replace: "const booked = Math.min(0, mostAtOnce(sameAccount, booking));",
    },
    {
      name: "What overlaps a booking after its beginning does not add up for a quota",
      find: "const begins = [from, ...others.map((one) => one.from).filter((at) => from < at && at < to)];",
      replace: "const begins = [from, ...others.map((one) => one.from).filter((at) => to < at && at < from)];",
    },
    {
      name: "A booking for any service counts for the quota of one without a name",
      find: "(!isPrincipal && booking.serviceName === null)",
      replace: "(isPrincipal && booking.serviceName === undefined)",
    },
    {
      name: "Anybody gives up anybody's booking",
      find: "if (!actor.admin && actor.principal !== booking.principal) throw",
      replace: "if (actor.admin && actor.principal !== booking.principal) throw",
    },
    {
      name: "Bookings are forgotten at the next policy",
      file: "src/core/host/changes.ts",
      find: "const next = { ...state, policy, ...windowsOf(policy, state.bookings) };",
      replace: "const next = { ...state, policy, ...windowsOf(policy, []) };",
    },
    {
      name: "What a service booked is for all of its principal",
      file: "src/core/model/booking.ts",
      find: "const services = serviceName === null ? [] : [serviceName];",
      replace: "const services = serviceName === null ? [] : [serviceName].slice(1);",
    },
  ],
);

export const WINDOW_MUTANTS: readonly Mutant[] = [
  ...KEEPING,
  ...BOOKING,
  ...SERVING,
  ...COUNTING,
  ...CLOCKS,
  ...WAKING,
];
