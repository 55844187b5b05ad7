/** By itself, so that it is loaded only where there are settings to read. */
import { parse } from "yaml";

export function parseYaml(text: string): unknown {
  return parse(text);
}
