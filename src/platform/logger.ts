import { type Logger as PinoLogger, pino } from "pino";

export type Logger = PinoLogger;
export type LogLevel = "trace" | "debug" | "info" | "warn" | "error" | "fatal" | "silent";

/** One JSON object a line on standard output; secrets that stray into an object are blotted out. */
export function createLogger(level: LogLevel): Logger {
  return pino({
    level,
    base: null,
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label) => ({ level: label }) },
    redact: {
      paths: ["*.secret", "*.authorization", "*.apiKey", "secret", "authorization", "apiKey"],
      censor: "[redacted]",
    },
  });
}
