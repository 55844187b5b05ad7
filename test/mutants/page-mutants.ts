/** Bugs of the page, and of what it is told. */
import { type Mutant, planted } from "./mutant.ts";

const BOARD = planted(
  "src/web/board.ts",
  ["test/web/board.test.ts"],
  [
    {
      name: "An event does not lead to a fetch of the list",
      find: "if (message.id > (this.#view.list?.last_event_id ?? 0)) this.refresh();",
      replace: "",
    },
    {
      name: "After a break the page does not look what has happened meanwhile",
      find: 'if (link === "live" && this.#view.link === "lost") this.#refreshAll();',
      replace: "",
    },
    {
      name: "A state that a reading brings leaves the rest of the list as it was",
      find: "if (moved) this.refresh();",
      replace: "",
    },
    {
      name: "A refused key is not asked for again",
      find: 'this.#show({ phase: "key", problem: error.message });',
      replace: "",
    },
  ],
);

const PACE = planted(
  "src/web/pace.ts",
  ["test/web/board.test.ts"],
  [
    {
      name: "Two fetches of the list are under way at once",
      find: "if (this.#isLooking || this.#callOff !== null) return;",
      replace: "if (this.#callOff !== null) return;",
    },
    {
      name: "What happens while the page looks is not looked at",
      find: "if (this.#isWanted) this.want();",
      replace: "",
    },
  ],
);

const WORK: readonly Mutant[] = [
  {
    name: "The page does not look at work again when the stream says that it has changed",
    file: "src/web/board.ts",
    find: 'else if (message.event === "work") this.#refreshWork();',
    replace: "",
    tests: ["test/web/board.test.ts"],
  },
  {
    name: "After a break the page shows the work of before",
    file: "src/web/board.ts",
    find: "    this.refresh();\n    this.#refreshWork();\n",
    replace: "    this.refresh();\n",
    tests: ["test/web/board.test.ts"],
  },
  {
    name: "A daemon that runs no work any more is shown with what it ran",
    file: "src/web/board.ts",
    find: "const work = me.work ? this.#view.work : null;",
    replace: "const { work } = this.#view;",
    tests: ["test/web/board.test.ts"],
  },
  {
    name: "A service of which half is ready looks like one of which all is",
    file: "src/web/model/work.ts",
    find: 'if (phase === "running" && readyReplicas < replicas)',
    replace: 'if (phase === "running" && readyReplicas < 1)',
    tests: ["test/web/work.test.ts"],
  },
  {
    name: "A task that is being cancelled looks as if it ran on",
    file: "src/web/model/work.ts",
    find: "if (task.cancelling) return STOPS;",
    replace: "",
    tests: ["test/web/work.test.ts"],
  },
  {
    name: "A task that failed looks as if it were done",
    file: "src/web/model/work.ts",
    find: "{ DONE, FAILED, CANCELLED };",
    replace: "{ DONE, FAILED: DONE, CANCELLED };",
    tests: ["test/web/work.test.ts"],
  },
  {
    name: "A log that broke off goes on with what was there before, told twice",
    file: "src/web/api/log.ts",
    find: "  onBegin();\n",
    replace: "",
    tests: ["test/web/log.test.ts"],
  },
  {
    name: "A log whose stream ends with the daemon is taken for whole",
    file: "src/web/api/log.ts",
    find: 'if (state === "ended") return;',
    replace: "if (state !== undefined) return;",
    tests: ["test/web/log.test.ts"],
  },
  {
    name: "Whoever may not see a log asks for it again and again",
    file: "src/web/api/log.ts",
    find: "error.status >= 400 && error.status < 500",
    replace: "error.status >= 500",
    tests: ["test/web/log.test.ts"],
  },
  {
    name: "What a program writes may turn the direction of the page's text",
    file: "src/web/model/log.ts",
    find: "|[\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u2069]/gu",
    replace: "/gu",
    tests: ["test/web/log.test.ts"],
  },
  {
    name: "Everybody is offered to stop what others run",
    file: "src/web/model/rights.ts",
    find: 'return role === "admin" || principal === owner;',
    replace: 'return role !== "read" || principal === owner;',
    tests: ["test/web/rights.test.ts"],
  },
  {
    name: "The stream does not say that work has changed",
    file: "src/http/events/stream.ts",
    find: '...(wantsWork === "true" && workNews !== null ? [ofWork(workNews)] : []),',
    replace: '...(wantsWork === "yes" as string && workNews !== null ? [ofWork(workNews)] : []),',
    tests: ["test/work-service/overview.test.ts"],
  },
  {
    name: "Of tasks that are over the first are shown, not the last",
    file: "src/work-service/overview.ts",
    find: "(b.finishedAt ?? 0) - (a.finishedAt ?? 0)",
    replace: "(a.finishedAt ?? 0) - (b.finishedAt ?? 0)",
    tests: ["test/work-service/overview.test.ts"],
  },
  {
    name: "What was sent is shown to everybody who may read",
    file: "src/work-service/overview.ts",
    find: "const { raw_yaml: _, parsed: __, warnings: ___, attempts: ____, ...line } = taskView(state, task, false);",
    replace: "const { parsed: __, warnings: ___, attempts: ____, ...line } = taskView(state, task, true);",
    tests: ["test/work-service/overview.test.ts"],
  },
];

const STREAM = planted(
  "src/web/api/follow.ts",
  ["test/web/stream.test.ts"],
  [
    {
      name: "After a break the stream begins where the page began",
      find: "if (message.id !== null) position = message.id;",
      replace: "",
    },
    {
      name: "A silent stream is taken for a live one",
      find: "let callOff = after(SILENCE_MS, end);",
      replace: "let callOff = () => {};",
    },
  ],
);

const LEAD = planted(
  "src/web/api/lead.ts",
  ["test/web/lead.test.ts"],
  [
    {
      name: "Who joins is not handed what came lately",
      find: "if (message.id === null || message.id > data.after) channel",
      replace: "if (message.id === null) channel",
    },
    {
      name: "A leader that took over repeats events",
      find: 'if (message.id <= position && message.event !== "reset") return false;',
      replace: "",
    },
  ],
);

const HOST = planted(
  "src/web/model/host.ts",
  ["test/web/host.test.ts"],
  [
    {
      name: "Another process on a GPU is not looked at",
      find: "if (pids.join() !== now.pids.join()) return true;",
      replace: "",
    },
    {
      name: "Figures of instances stay as they were",
      find: "return seen === undefined ? instance : { ...instance, ...seen };",
      replace: "return instance;",
    },
    {
      name: "A lease that must leave is told by its own end",
      find: "const hard = [notice?.leave_by, claim_by]",
      replace: "const hard = [claim_by]",
    },
  ],
);

const RIGHTS = planted(
  "src/web/model/rights.ts",
  ["test/web/rights.test.ts"],
  [
    {
      name: "A role that is not known may do everything",
      find: "Math.max(0, ROLES.indexOf(role))",
      replace: "Math.abs(ROLES.indexOf(role) * ROLES.length)",
    },
  ],
);

const HISTORY = planted(
  "src/scheduler/gpu-changes.ts",
  ["test/scheduler/gpu-history.test.ts"],
  [
    {
      name: "What a turn makes of a GPU is left to the next look",
      find: "if (last === undefined || turn.at - last.at < SHORTEST_MS) continue;",
      replace: "if (last !== undefined) continue;",
    },
    {
      name: "Each of many short leases makes changes of its own",
      find: "if (last === undefined || turn.at - last.at < SHORTEST_MS) continue;",
      replace: "if (last === undefined) continue;",
    },
    {
      name: "That a lease sits idle is told of at the next look",
      find: "if (wasIdle === (allocation.idleSince !== null)) continue;",
      replace: "if (wasIdle !== null) continue;",
    },
    {
      name: "What a GPU was that has left the inventory is remembered for good",
      find: "if (!state.gpus.has(uuid)) this.#last.delete(uuid);",
      replace: "if (state.gpus.has(uuid)) this.#last.get(uuid);",
    },
  ],
);

const TIME_LINE = planted(
  "src/store/statements.ts",
  ["test/store/history.test.ts"],
  [
    {
      name: "The last change of a GPU that has left the inventory is kept for good",
      find: "OR gpu_uuid NOT IN (SELECT uuid FROM gpus))",
      replace: "OR gpu_uuid IN (SELECT 0 FROM gpus))",
    },
  ],
);

const READINGS: readonly Mutant[] = [
  {
    name: "A held GPU whose readings grow old is told of at the next reading, which does not come",
    file: "src/http/readings/feed.ts",
    find: "const ailment = ailing(gpu, state, now);",
    replace: "const ailment = null as ReturnType<typeof ailing>;",
    tests: ["test/http/readings/readings.test.ts"],
  },
  {
    name: "Readings do not tell which processes are there",
    file: "src/http/readings/views.ts",
    find: "processes.map(({ pid }) => pid)",
    replace: "processes.slice(1).map(({ pid }) => pid)",
    tests: ["test/http/readings/readings.test.ts"],
  },
];

const DOCS = planted(
  "src/web/docs/links.ts",
  ["test/web/docs/links.test.ts"],
  [
    {
      name: "A form at /docs is filled with nothing where a list is empty",
      find: 'return typeof found === "string" || typeof found === "number" ? String(found) : null;',
      replace: "return String(found);",
    },
    {
      name: "Whoever is no admin asks for what is for admins at the start of /docs, and is refused",
      find: '...(role === "admin" ? [] : [ADMINISTRATION])',
      replace: '...(role === "" ? [ADMINISTRATION] : [])',
    },
    {
      name: "Calls that need something are asked at the start of /docs without it",
      find: 'method === "get" && !parameters.some(({ required }) => required === true);',
      replace: 'method === "get" && parameters.length >= 0;',
    },
    {
      name: "A body at /docs keeps only the field that was filled",
      find: "{ ...(example as object | undefined), ...Object.fromEntries(fields) }",
      replace: "Object.fromEntries(fields)",
    },
  ],
);

const DOCS_LINKS = planted(
  "src/http/exchange/links.ts",
  ["test/http/service/links.test.ts"],
  [
    {
      name: "Refusals have the links of the success",
      find: 'status.startsWith("2") ? { ...response, links } : response,',
      replace: 'status.startsWith("4") ? { ...response, links } : response,',
    },
  ],
);

const GLIMPSE = planted(
  "src/web/docs/glimpse.ts",
  ["test/web/docs/glimpse.test.ts"],
  [
    {
      name: "A stream at /docs is waited for until it ends, which it does not",
      find: "setTimeout(() => void reader.cancel(), GLIMPSE_MS)",
      replace: "setTimeout(() => undefined, GLIMPSE_MS)",
    },
  ],
);

export const PAGE_MUTANTS: readonly Mutant[] = [
  ...BOARD,
  ...PACE,
  ...WORK,
  ...STREAM,
  ...LEAD,
  ...HOST,
  ...RIGHTS,
  ...HISTORY,
  ...TIME_LINE,
  ...READINGS,
  ...DOCS,
  ...GLIMPSE,
  ...DOCS_LINKS,
];
