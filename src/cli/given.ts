/** The text of a file that a verb is given. */
import { readFileSync } from "node:fs";
import { text } from "node:stream/consumers";
import { notRead, UsageError } from "./exits.ts";

/** @param file `-`: standard input, as a stream: a pipe whose other end does not block is not to be read at once. */
export async function textIn(file: string): Promise<string> {
  try {
    return file === "-" ? await text(process.stdin) : readFileSync(file, "utf8");
  } catch (error) {
    throw new UsageError(notRead(file, error));
  }
}
