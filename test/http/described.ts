/** Holds answers against the API's document: status, type, header fields, and the body in whole. */
import { expect } from "vitest";
import { z } from "zod";
import type { Reply } from "./daemon.ts";

// biome-ignore lint/suspicious/noExplicitAny: the document is JSON.
type Json = any;

export class DescribedCall {
  readonly method: string;
  readonly template: string;
  /** As the document has it. */
  readonly operation: Json;

  constructor(method: string, template: string, operation: Json) {
    this.method = method.toUpperCase();
    this.template = template;
    this.operation = operation;
  }

  /** What a failed property shows of it. */
  toString(): string {
    return `${this.method} ${this.template}`;
  }
}

export class Described {
  readonly #document: Json;
  /** Made of a schema when the first answer is held against it. */
  readonly #shapes = new Map<string, z.ZodType>();

  constructor(document: Json) {
    this.#document = document;
  }

  get calls(): readonly DescribedCall[] {
    return Object.entries<Json>(this.#document.paths).flatMap(([template, item]) =>
      Object.entries<Json>(item).map(([method, operation]) => new DescribedCall(method, template, operation)),
    );
  }

  get templates(): readonly string[] {
    return Object.keys(this.#document.paths);
  }

  /** By status. */
  responses(method: string, template: string): Json {
    return this.#document.paths[template][method.toLowerCase()].responses;
  }

  /** Nothing may be missing from an answer, and nothing beside what the document has. */
  expect(method: string, template: string, reply: Reply): void {
    const what = `${method} ${template} ${reply.status} ${reply.text}`;
    const response = this.responses(method, template)[reply.status];
    expect(response, what).toBeDefined();
    const type = String(reply.headers["content-type"]).split(";")[0] as string;
    expect(Object.keys(response.content), what).toContain(type);
    for (const [name, header] of Object.entries<Json>(response.headers ?? {})) {
      if (header.required) expect(reply.headers).toHaveProperty(name.toLowerCase());
    }
    if (reply.json !== undefined) this.expectBody(method, template, reply.status, reply.json, type);
  }

  /** The same of the body alone. */
  expectBody(method: string, template: string, status: number, body: unknown, type = "application/json"): void {
    const { schema } = this.responses(method, template)[status].content[type];
    if (schema === undefined) return;
    const shape = this.#shape(`${method} ${template} ${status} ${type}`, schema);
    const what = `${method} ${template} ${status} ${JSON.stringify(body)}`;
    expect(shape.safeParse(body).error?.issues ?? [], what).toEqual([]);
  }

  #shape(name: string, schema: Json): z.ZodType {
    const kept = this.#shapes.get(name);
    if (kept !== undefined) return kept;
    const made = z.fromJSONSchema(this.#inlined(schema));
    this.#shapes.set(name, made);
    return made;
  }

  /** With what it refers to. */
  #inlined(schema: Json): Json {
    const whole = JSON.stringify({ ...schema, $defs: this.#document.components.schemas });
    return JSON.parse(whole.replaceAll("#/components/schemas/", "#/$defs/"));
  }
}
