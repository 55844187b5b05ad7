import { join, parse } from "node:path";
import { type LoggerOptions, type Logger as PinoLogger, pino } from "pino";
import { isoTime } from "./iso-time.ts";

export type Logger = PinoLogger;
export type LogLevel = "trace" | "debug" | "info" | "warn" | "error" | "fatal" | "silent";

type LogFile = ReturnType<typeof pino.destination>;
const files = new WeakMap<Logger, LogFile>();
const lines = new WeakMap<Logger, LinesTogether>();

/** From this level on a line is not kept back. */
const URGENT = pino.levels.values.warn ?? 0;

/** A line after so long a silence, in ms, is written at once. */
const SILENCE_MS = 5;

/**
 * Hands lines that come close together on together: a call of the system for each would be a twentieth of what a busy
 * daemon does. A line that comes alone, and a warning with all that was said before it, is written at once. Others wait
 * for the end of the event loop's turn, or of the program, as long as that is by an exit or an error: a signal that
 * nobody handles (SIGKILL, SIGABRT) takes what was said in the last turn with it.
 */
class LinesTogether {
  static readonly #keptBack = new Set<LinesTogether>();
  readonly #file: LogFile;
  #lines = "";
  #saidAt = Number.NEGATIVE_INFINITY;
  /** Of the line that is written next: pino tells it to a stream that bears its symbol. */
  lastLevel = 0;

  constructor(file: LogFile) {
    this.#file = file;
    Object.assign(this, { [pino.symbols.needsMetadataGsym]: true });
  }

  static {
    process.on("exit", () => {
      for (const each of LinesTogether.#keptBack) each.#handOn();
    });
  }

  write(line: string): void {
    this.#lines += line;
    const now = performance.now();
    const isAlone = now - this.#saidAt > SILENCE_MS;
    this.#saidAt = now;
    if (isAlone || this.lastLevel >= URGENT) this.#handOn();
    else if (!LinesTogether.#keptBack.has(this)) {
      LinesTogether.#keptBack.add(this);
      setImmediate(() => this.#handOn());
    }
  }

  #handOn(): void {
    LinesTogether.#keptBack.delete(this);
    if (this.#lines === "") return;
    const lines = this.#lines;
    this.#lines = "";
    this.#file.write(lines);
  }
}

/**
 * One JSON object a line, on standard output or at the end of `file`; secrets that stray into an object are blotted out.
 *
 * @throws Error when the file cannot be opened.
 */
export function createLogger(level: LogLevel, file: string | null = null): Logger {
  // Of a file only its owner reads it.
  const destination = pino.destination(
    file === null ? { dest: 1, sync: true } : { dest: file, append: true, mkdir: true, mode: 0o600, sync: true },
  );
  // A full disk costs lines, and ends nothing.
  destination.on("error", () => undefined);
  const together = new LinesTogether(destination);
  const logger = pino(optionsOf(level), together);
  lines.set(logger, together);
  if (file !== null) files.set(logger, destination);
  return logger;
}

/** Says something that has no secrets, whatever level the logger has. */
export type Plainly = (level: "debug" | "info" | "warn", facts: object, message: string) => void;

/**
 * Writes the lines of `logger` as it would itself, but does not look for secrets in them: that takes as long as all the
 * rest of a line.
 *
 * @returns what takes facts of JSON, with no `level`, `time` or `msg` among them.
 */
export function plainly(logger: Logger): Plainly {
  const together = lines.get(logger);
  if (together === undefined) {
    const plain = logger.child({}, { redact: [], level: "trace" });
    return (level, facts, message) => plain[level](facts, message);
  }
  return (level, facts, message) => {
    const members = JSON.stringify(facts).slice(1, -1);
    together.lastLevel = pino.levels.values[level] ?? 0;
    together.write(
      `{"level":"${level}","time":"${isoTime(Date.now())}",${members === "" ? "" : `${members},`}"msg":${JSON.stringify(message)}}\n`,
    );
  };
}

/**
 * After its file was moved away: the next line begins a new one. Nothing happens to a log that is in no file. When the
 * file cannot be opened the log goes on where it was, and says so there.
 */
export function reopenLog(logger: Logger): void {
  const destination = files.get(logger);
  if (destination === undefined) return;
  const before = new Set(destination.listeners("ready"));
  try {
    destination.reopen();
  } catch (error) {
    // It would close the present file once more after a later reopening: by then the number may be another file's.
    for (const listener of destination.listeners("ready") as (() => void)[]) {
      if (!before.has(listener)) destination.removeListener("ready", listener);
    }
    logger.error({ err: error }, "logging.file cannot be opened anew; the log goes on in the old one");
  }
}

/** A file beside `file` for another process: two that append to one would both be moved away, and one be told of it. */
export function logFileOf(program: string, file: string): string {
  const { dir, name, ext } = parse(file);
  return join(dir, `${name}.${program}${ext}`);
}

function optionsOf(level: LogLevel) {
  return {
    level,
    base: null,
    timestamp: () => `,"time":"${isoTime(Date.now())}"`,
    formatters: { level: (label: string) => ({ level: label }) },
    redact: {
      paths: ["*.secret", "*.authorization", "*.apiKey", "secret", "authorization", "apiKey"],
      censor: "[redacted]",
    },
  } satisfies LoggerOptions;
}
