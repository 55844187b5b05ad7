/**
 * What controller and nodes write to each other. Whoever may write to Redis must not command nodes by that: every message
 * bears a code over all of its fields and the stream that it stands in, made with a secret that Redis never sees.
 */
import { createHmac, timingSafeEqual } from "node:crypto";
import { fieldsIn } from "./flat.ts";

const VERSION = "1";

/** What a controller says, and what a node does. */
export type MessageType =
  | ("assign" | "stop" | "recall" | "sync")
  | ("hello" | "offer" | "accepted" | "declined" | "state" | "finished" | "bye");

export interface Message {
  /** Unique among those of its sender. */
  readonly id: string;
  readonly type: MessageType;
  readonly node: string;
  /** The run that it is about; empty: none. */
  readonly assignment: string;
  readonly epoch: number;
  readonly body: unknown;
}

const FIELDS = ["v", "id", "type", "node", "assignment", "epoch", "body"] as const;
type Fields = Readonly<Record<(typeof FIELDS)[number], string>>;

/** As XADD takes it: names and values in turn. */
export function signed(message: Message, stream: string, secret: Buffer): string[] {
  const fields: Fields = {
    v: VERSION,
    id: message.id,
    type: message.type,
    node: message.node,
    assignment: message.assignment,
    epoch: String(message.epoch),
    body: JSON.stringify(message.body),
  };
  return [...Object.entries(fields).flat(), "mac", codeOf(fields, stream, secret)];
}

/** @returns `null` when it is not of somebody who has the secret, or is of another version. */
export function opened(flat: readonly string[], stream: string, secret: Buffer): Message | null {
  const given = fieldsIn(flat);
  const mac = given.get("mac") ?? "";
  if (given.size !== FIELDS.length + 1 || FIELDS.some((name) => !given.has(name))) return null;
  const fields = Object.fromEntries(FIELDS.map((name) => [name, given.get(name) as string])) as Fields;
  const [expected, actual] = [Buffer.from(codeOf(fields, stream, secret)), Buffer.from(mac)];
  if (expected.length !== actual.length || !timingSafeEqual(expected, actual) || fields.v !== VERSION) return null;
  return {
    id: fields.id,
    type: fields.type as MessageType,
    node: fields.node,
    assignment: fields.assignment,
    epoch: Number(fields.epoch),
    body: JSON.parse(fields.body),
  };
}

function codeOf(fields: Fields, stream: string, secret: Buffer): string {
  const code = createHmac("sha256", secret);
  for (const part of [stream, ...FIELDS.map((name) => fields[name])]) {
    // With its length before it no part can lend letters to the next.
    code.update(`${Buffer.byteLength(part)}:`).update(part);
  }
  return code.digest("hex");
}
