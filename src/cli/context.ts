/** What each verb of a client is given: the daemon, the terminal, and the time. */
import { type Client, isPassing } from "../client/client.ts";
import { type Connection, type ConnectionOptions, clientOf, connectionOf } from "./connect.ts";
import { wordsOf } from "./exits.ts";
import { type OutputOptions, Terminal } from "./terminal.ts";

export interface CommonOptions extends ConnectionOptions, OutputOptions {
  readonly watch?: boolean;
}

export interface Context extends Connection {
  readonly client: Client;
  readonly terminal: Terminal;
}

/** @param patienceMs how long what is safe to repeat is repeated while the daemon does not answer. */
export async function contextOf(options: CommonOptions, patienceMs = 0): Promise<Context> {
  const terminal = new Terminal(options);
  const connection = await connectionOf(options, process.env, (words) => terminal.warn(`warning: ${words}`));
  return { ...connection, client: clientOf(connection, patienceMs), terminal };
}

const WATCH_MS = 2_000;

/**
 * Shows once, or again and again: on a terminal in place, else one after the other. A daemon that is gone for a while, as at
 * an upgrade, ends no watching that has begun.
 */
export async function shown(
  context: Context,
  watch: boolean | undefined,
  show: () => Promise<readonly string[]>,
): Promise<void> {
  const { terminal } = context;
  let hasShown = false;
  let trouble: string | null = null;
  for (;;) {
    try {
      const lines = await show();
      const clear = watch === true && terminal.isTerminal && !terminal.json ? "\x1b[H\x1b[2J" : "";
      if (lines.length > 0) process.stdout.write(`${clear}${lines.join("\n")}\n`);
      hasShown = true;
      trouble = null;
    } catch (error) {
      if (watch !== true || !hasShown || !isPassing(error)) throw error;
      const [words = ""] = wordsOf(error);
      if (words !== trouble) terminal.warn(`${words}; what is shown is old, and is looked at again`);
      trouble = words;
    }
    if (watch !== true) return;
    await new Promise((resolve) => setTimeout(resolve, WATCH_MS));
  }
}
