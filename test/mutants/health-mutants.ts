/** Bugs in what is made of a GPU's health. */
import { type Mutant, planted } from "./mutant.ts";

const RECOVERY = "test/core/decisions/observe/recovery.test.ts";

const SIGHT = planted(
  "src/core/decisions/observe/sight.ts",
  [RECOVERY],
  [
    {
      name: "A GPU is granted at its first good reading after a fault",
      find: "return from === null ? null : {",
      replace: "return from === null || at > 0 ? null : {",
    },
    {
      name: "Two good readings are enough",
      find: "return goodReadings >= GOOD_READINGS_TO_RECOVER ? null",
      replace: "return goodReadings >= GOOD_READINGS_TO_RECOVER - 1 ? null",
    },
    {
      name: "Good readings before a relapse count",
      find: "const recovery = ailments.some(isFault) ? null :",
      replace: "const recovery = ailments.some(isFault) ? (before?.recovery ?? null) :",
    },
    {
      name: "A missing GPU is granted as soon as it is seen again",
      find: "return sight.missing.has(uuid) ?",
      replace: "return sight.missing.size < 0 ?",
    },
    {
      name: "Readings without a GPU add up although it was seen in between",
      find: "if (present.has(uuid)) continue;",
      replace: "if (present.has(uuid) && !sight.missing.has(uuid)) continue;",
    },
    {
      name: "Good readings from before the driver was gone count",
      find: "if (!BLINDING.has(failure.kind)) return next;",
      replace: "if (BLINDING.has(failure.kind)) return next;",
    },
    {
      name: "A restart spares a lost GPU its recovery",
      find: "if ((gpus.get(uuid)?.lostSince ?? null) !== null) return",
      replace: "if ((gpus.get(uuid)?.lostSince ?? null) === undefined) return",
    },
  ],
);

const ISOLATION = "test/core/allocator/isolation.test.ts";
const TRUTH = "test/core/decisions/observe/driver-truth.test.ts";

const LIMITS: readonly Mutant[] = [
  {
    name: "An isolated GPU is granted together with others",
    file: "src/core/allocator/fit.ts",
    find: 'if (isolated && shape.gpus > 1) return "isolated";',
    replace: 'if (isolated && shape.gpus > 1e9) return "isolated";',
    tests: [ISOLATION],
  },
  {
    name: "GPUs are held for a request of several that only an isolated one could complete",
    file: "src/core/allocator/fit.ts",
    find: "!(isolated && shape.gpus > 1);",
    replace: "!(isolated && shape.gpus > 1e9);",
    tests: [ISOLATION],
  },
  {
    name: "A GPU whose fabric has just healed works with others at once",
    file: "src/core/host/condition.ts",
    find: 'return recovery?.from.block === "isolated" ?',
    replace: 'return recovery?.from.block === "isolated" && recovery.since < 0 ?',
    tests: [ISOLATION],
  },
  {
    name: "A degraded GPU is granted first where it is only to be avoided",
    file: "src/core/host/condition.ts",
    find: 'return degraded?.block === "degraded" ? degraded.detail : null;',
    replace: 'return degraded?.block === "lost" ? degraded.detail : null;',
    tests: [TRUTH],
  },
  {
    name: "A degraded GPU is granted although the settings exclude it",
    file: "src/core/host/condition.ts",
    find: '(block !== "degraded" || degradedGpus === "exclude")',
    replace: '(block !== "degraded" || degradedGpus === undefined)',
    tests: [TRUTH],
  },
  {
    name: "A GPU on which CUDA cannot start yet is granted",
    file: "src/core/readings/health.ts",
    find: 'new Set(["Not Started", "In Progress"])',
    replace: 'new Set(["Not Started"])',
    tests: [TRUTH],
  },
  {
    name: "The reset that older drivers ask for by a flag is not seen",
    file: "src/monitor/nvidia-smi/parse.ts",
    find: 'wordAt(gpu, "gpu_reset_status/reset_required") === "Yes"',
    replace: 'wordAt(gpu, "gpu_reset_status/reset_required") === "yes"',
    tests: ["test/monitor/nvidia-smi/parse.test.ts"],
  },
];

const LOG = "test/core/decisions/observe/kernel-log.test.ts";

const XIDS: readonly Mutant[] = [
  ...planted(
    "src/core/decisions/observe/kernel-log.ts",
    [LOG],
    [
      {
        name: "What an admin has answered comes back with the next reading of the log",
        find: "if (sequence <= answeredUpTo || fault?.scope",
        replace: "if (fault?.scope",
      },
      {
        name: "A driver that was loaded before an error answers it",
        find: "if (gpu.fault === null || gpu.fault.sequence > upTo) return;",
        replace: "if (gpu.fault === null) return;",
      },
      {
        name: "Every repetition of an error is an event",
        find: 'fault?.scope === "all" || fault?.scope === scope) return;',
        replace: '(fault?.scope === "all" && scope !== "all")) return;',
      },
      {
        name: "Reports are taken in the order in which they were counted, not in that of the log",
        find: ".sort((a, b) => a.sequence - b.sequence)",
        replace: "",
      },
      {
        name: "An error is blamed on the GPU that stood there before",
        find: "if (seen !== undefined && (others.length === 0 || !isBefore(report, seen, state))) return seen;",
        replace: "if (seen !== undefined && others.length === 0) return seen;",
      },
      {
        name: "An error is blamed on the GPU that came to the slot after it",
        find: "sequence <= gpu.answeredUpTo || (cameAt !== undefined && at <= cameAt)",
        replace: "sequence <= gpu.answeredUpTo && (cameAt === undefined || at <= cameAt)",
      },
    ],
  ),
  {
    name: "A program's own error keeps a GPU from everybody",
    file: "src/core/readings/xid.ts",
    find: '[43, "IGNORE",',
    replace: '[43, "RESET_GPU",',
    tests: [LOG],
  },
  {
    name: "An NVLink error that is not fatal excludes",
    file: "src/core/readings/xid.ts",
    find: 'return fatal ? "exclude" : "note";',
    replace: 'return fatal || xid > 0 ? "exclude" : "note";',
    tests: [LOG],
  },
  {
    name: "A new boot does not answer the errors of the last",
    file: "src/core/decisions/resume.ts",
    find: "    answerFaults(draft, now);",
    replace: "    if (now < 0) answerFaults(draft, now);",
    tests: [LOG],
  },
  {
    name: "After a new boot its errors pass for answered, since they are numbered anew",
    file: "src/core/decisions/resume.ts",
    find: "if (fault === null && answeredUpTo === 0) continue;",
    replace: "if (fault === null) continue;",
    tests: [LOG],
  },
  {
    name: "Clearing an error takes the GPU from its lease",
    file: "src/core/host/hold-changes.ts",
    find: '  if (hold.kind === "quarantined") return FREE;\n  return hold.kind === "shared" &&',
    replace:
      '  if (hold.kind === "quarantined" || hold.kind === "leased") return FREE;\n  return hold.kind === "shared" &&',
    tests: [LOG],
  },
  {
    name: "A program may write errors into the log",
    file: "src/monitor/kernel-log/record.ts",
    find: "Number(head[1]) >> FACILITY_SHIFT !== 0",
    replace: "Number(head[1]) >> FACILITY_SHIFT < 0",
    tests: ["test/monitor/kernel-log/xid-line.test.ts"],
  },
  {
    name: "An error is found wherever it stands in a line",
    file: "src/monitor/kernel-log/xid-line.ts",
    find: "  `^NVRM:\\\\s+Xid",
    replace: "  `NVRM:\\\\s+Xid",
    tests: ["test/monitor/kernel-log/xid-line.test.ts"],
  },
  ...planted(
    "src/monitor/kernel-log/kernel-log.ts",
    ["test/monitor/kernel-log/kernel-log.test.ts"],
    [
      {
        name: "A flood is read to its end in one turn",
        find: "reads < MAX_READS_PER_TURN && total < MAX_BYTES_PER_TURN",
        replace: "reads < 1_000 * MAX_READS_PER_TURN && total < 1_000 * MAX_BYTES_PER_TURN",
      },
      {
        name: "News that the store refused is lost",
        find: "for (const report of reports) this.#findings.add(report);",
        replace: "for (const report of reports.slice(reports.length)) this.#findings.add(report);",
      },
      {
        name: "A log that could not be read is never tried again",
        find: "this.#descriptor === null ? RETRY_MS :",
        replace: "this.#descriptor === null ? 1_000 * RETRY_MS :",
      },
    ],
  ),
  {
    name: "A driver that was loaded answers for the GPU that it did not find",
    file: "src/monitor/kernel-log/findings.ts",
    find: "? met.sequence - 1 : sequence",
    replace: "? sequence : sequence",
    tests: ["test/cases/kernel-log.test.ts"],
  },
  {
    name: "A log of an unknown form passes for one without errors",
    file: "src/monitor/kernel-log/lines.ts",
    find: "return this.#unknown && !this.#known ?",
    replace: "return this.#unknown && this.#known ?",
    tests: ["test/cases/kernel-log.test.ts"],
  },
  {
    name: "Two blanks hide that an NVLink error is fatal",
    file: "src/monitor/kernel-log/xid-line.ts",
    find: "\\s+Fatal\\b/;",
    replace: " Fatal\\b/;",
    tests: ["test/cases/kernel-log.test.ts"],
  },
];

const CASES = "test/cases/nvidia-smi.test.ts";

const REAL_MACHINES: readonly Mutant[] = [
  {
    name: "A GPU that is named beside the document is granted",
    file: "src/monitor/nvidia-smi/verdict.ts",
    find: "const named = namedGpus(beside);",
    replace: "const named = namedGpus(beside).slice(1);",
    tests: [CASES],
  },
  {
    name: "GPUs are numbered by their place in a document that leaves one out",
    file: "src/monitor/nvidia-smi/numbering.ts",
    find: "if (index !== null) take(shown.length + n, index);",
    replace: "if (index !== null) take(shown.length + n, index + shown.length);",
    tests: [CASES],
  },
  {
    name: "A lease shows the index that its GPU had at the grant",
    file: "src/core/host/indices.ts",
    find: "return (uuid) => indices.get(uuid) ?? null;",
    replace: "return (uuid) => state.gpus.get(uuid)?.index ?? null;",
    tests: ["test/core/host/indices.test.ts"],
  },
  {
    name: "A name with a tag in it hides the processes after it",
    file: "src/monitor/nvidia-smi/sieve.ts",
    find: 'kind: start === NAME_START ? "name" : "opened"',
    replace: 'kind: start === NAME_END ? "name" : "opened"',
    tests: [CASES],
  },
  {
    name: "What is left out of the output may swallow a list of processes",
    file: "src/monitor/nvidia-smi/sieve.ts",
    find: "if (other !== null) {",
    replace: "if (other !== null && other.index < 0) {",
    tests: [CASES],
  },
  {
    name: "A small process does not count on a GPU that takes one",
    file: "src/core/readings/use.ts",
    find: "const leastMib = exclusive ? 0 : SMALL_PROCESS_MIB;",
    replace: "const leastMib = exclusive ? SMALL_PROCESS_MIB : SMALL_PROCESS_MIB;",
    tests: [CASES],
  },
];

const ONE_BY_ONE = planted(
  "src/monitor/nvidia-smi/one-by-one.ts",
  ["test/monitor/nvidia-smi/source.test.ts"],
  [
    {
      name: "A GPU is called lost for an answer that blames another",
      find: "named === null || named === deviceOf(gpu.pciBusId)",
      replace: "named === null || named !== ''",
    },
    {
      name: "GPUs that were not asked for in time are left out as if they had gone",
      find: 'if (answer.said === "nothing") unread.push(gpu.uuid);',
      replace: 'if (answer.said === "nothing" && left < 0) unread.push(gpu.uuid);',
    },
    {
      name: "The GPU that hangs takes the time of the others",
      find: "left : left / 2",
      replace: "left : left",
    },
    {
      name: "With no GPU read, there is a reading of none",
      find: "if (host === null) return null;",
      replace:
        "if (host === null)\n    return { simulated: false, driverVersion: null, cudaVersion: null, topology: null, gpus: read, warnings: [] };",
    },
    {
      name: "GPUs that are read alone all have the index 0",
      find: "uuid: gpu.uuid, index: gpu.index }",
      replace: "uuid: gpu.uuid }",
    },
    {
      name: "Runs go on while one lives that cannot be killed",
      file: "src/monitor/nvidia-smi/source.ts",
      find: "return this.#closed || this.#abandonedPid !== null ? 0",
      replace: "return this.#closed ? 0",
    },
  ],
);

export const HEALTH_MUTANTS: readonly Mutant[] = [
  ...SIGHT,
  ...LIMITS,
  ...REAL_MACHINES,
  ...ONE_BY_ONE,
  ...XIDS,
  {
    name: "A GPU of which a reading says nothing counts as missing",
    file: "src/core/decisions/observe/sight.ts",
    find: "if (unread.has(uuid)) {",
    replace: "if (unread.has(uuid) && at < 0) {",
    tests: [RECOVERY],
  },
  {
    name: "What a reading does not speak of is forgotten",
    file: "src/core/decisions/observe/sight.ts",
    find: "if (before !== undefined) gpus.set(uuid, before);",
    replace: "if (before === undefined) gpus.delete(uuid);",
    tests: [RECOVERY],
  },
  {
    name: "A GPU that recovers is granted",
    file: "src/core/host/condition.ts",
    find: "if (recovery !== null && keepsFromAll(recovery.from, state.policy)) {",
    replace: "if (recovery !== null && now < 0) {",
    tests: [RECOVERY],
  },
  {
    name: "A missing GPU is lost at the first reading without it",
    file: "src/core/host/condition.ts",
    find: "(lostSince === null && readings < READINGS_UNTIL_LOST)",
    replace: "(lostSince === null && readings < 1)",
    tests: [RECOVERY],
  },
  {
    name: "A GPU is told to be lost with every reading",
    file: "src/core/decisions/observe/observe.ts",
    find: "if (loss !== null && lostSince === null) {",
    replace: "if (loss !== null) {",
    tests: [RECOVERY],
  },
  {
    name: "What a reading says of a GPU's new index forgets that it is lost",
    file: "src/core/host/evolve.ts",
    find: "[{ ...event.gpu, hold, cordon, fault, answeredUpTo, lostSince, foreignSince }]",
    replace: "[{ ...event.gpu, hold, cordon, fault, answeredUpTo, lostSince: null, foreignSince }]",
    tests: [RECOVERY],
  },
  {
    name: "What an admin has answered in the kernel's log is not written down when nothing else of the GPU changes",
    file: "src/store/ledger.ts",
    find: "a.answeredUpTo === b.answeredUpTo",
    replace: "a.answeredUpTo >= 0",
    tests: ["test/store/store.test.ts"],
  },
  {
    name: "That a GPU is lost is not written down when nothing else of it changes",
    file: "src/store/ledger.ts",
    find: "a.lostSince === b.lostSince",
    replace: "a.lostSince !== 0",
    tests: ["test/store/store.test.ts"],
  },
];
