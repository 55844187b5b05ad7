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

/** After its file was moved away: the next line begins a new one. Nothing happens to a log that is in no file. */
export function reopenLog(logger: Logger): void {
  files.get(logger)?.reopen();
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
