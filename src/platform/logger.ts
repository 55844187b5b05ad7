import { join, parse } from "node:path";
import { type LoggerOptions, type Logger as PinoLogger, pino } from "pino";

export type Logger = PinoLogger;
export type LogLevel = "trace" | "debug" | "info" | "warn" | "error" | "fatal" | "silent";

type LogFile = ReturnType<typeof pino.destination>;
const files = new WeakMap<Logger, LogFile>();

/**
 * One JSON object a line, on standard output or at the end of `file`; secrets that stray into an object are blotted out.
 *
 * @throws Error when the file cannot be opened.
 */
export function createLogger(level: LogLevel, file: string | null = null): Logger {
  if (file === null) return pino(optionsOf(level));
  // Only its owner reads it, and each line is written before the program goes on: what a crash was about is there.
  const destination = pino.destination({ dest: file, append: true, mkdir: true, mode: 0o600, sync: true });
  // A full disk costs lines, and ends nothing.
  destination.on("error", () => undefined);
  const logger = pino(optionsOf(level), destination);
  files.set(logger, destination);
  return logger;
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
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
    redact: {
      paths: ["*.secret", "*.authorization", "*.apiKey", "secret", "authorization", "apiKey"],
      censor: "[redacted]",
    },
  } satisfies LoggerOptions;
}
