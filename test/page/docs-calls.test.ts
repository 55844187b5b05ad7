/**
 * What /docs starts with, without a browser: each call of the document is sent as its form stands there, and its answer fills
 * the forms of others as the page does.
 */
import { describe, expect, test } from "vitest";
import { glimpse } from "../../src/web/docs/glimpse.ts";
import { calls, type Document, type Filling, fillings, lists, type Operation } from "../../src/web/docs/links.ts";
import { isBuilt } from "../e2e/daemon.ts";
import { AS_TESTER, isPress, PRESSES, type Press, startBusy } from "./docs-calls.ts";

const JSON_TYPE = "application/json";

class Forms {
  readonly #url: string;
  readonly #document: Document;
  readonly #filled = new Map<string, string>();

  constructor(url: string, document: Document) {
    this.#url = url;
    this.#document = document;
  }

  async look(): Promise<void> {
    for (const path of lists(this.#document, { role: "admin", work: true })) await this.#send(path, "get", path, {});
  }

  /** @returns the status. */
  async execute(id: string): Promise<number> {
    const found = calls(this.#document).find(({ operation }) => operation.operationId === id);
    if (found === undefined) throw new Error(`there is no ${id}`);
    const { path, method, operation } = found;
    const values = this.#valuesOf(path, method, operation);
    const at = values.reduce((all, [place, name, value]) => {
      return place === "path" ? all.replace(`{${name}}`, encodeURIComponent(value)) : all;
    }, path);
    const query = new URLSearchParams();
    for (const [place, name, value] of values) if (place === "query") query.append(name, value);
    const headers = Object.fromEntries(
      values.filter(([place]) => place === "header").map(([, name, value]) => [name, value]),
    );
    const example = operation.requestBody?.content[JSON_TYPE]?.example;
    const body = this.#filled.get(placeOf({ path, method, parameter: null })) ?? JSON.stringify(example);
    const type = body === undefined ? {} : { "content-type": JSON_TYPE };
    return this.#send(path, method, query.size === 0 ? at : `${at}?${query}`, { ...headers, ...type }, body);
  }

  #valuesOf(
    path: string,
    method: string,
    { parameters = [] }: Operation,
  ): [place: string, name: string, value: string][] {
    return parameters.flatMap((parameter) => {
      const value = this.#filled.get(placeOf({ path, method, parameter })) ?? parameter.schema?.example;
      return value === undefined ? [] : [[parameter.in, parameter.name, String(value)] as [string, string, string]];
    });
  }

  async #send(
    path: string,
    method: string,
    at: string,
    headers: Record<string, string>,
    body?: string,
  ): Promise<number> {
    const answer = await glimpse(this.#url + at, {
      method: method.toUpperCase(),
      headers: { ...headers, ...AS_TESTER, accept: path === "/" ? "text/html" : "*/*" },
      ...(body === undefined ? {} : { body }),
    });
    const isJson = answer.headers.get("content-type")?.startsWith(JSON_TYPE) === true;
    const told: unknown = isJson ? await answer.json() : await answer.text();
    for (const filling of fillings(this.#document, path, method, answer.status, told)) {
      this.#filled.set(placeOf(filling), filling.value);
    }
    return answer.status;
  }
}

function placeOf({ path, method, parameter }: Pick<Filling, "path" | "method" | "parameter">): string {
  return [path, method, parameter?.in, parameter?.name].join(" ");
}

describe.skipIf(!isBuilt)("the forms of /docs (npm test builds the program)", () => {
  test("every call of the document works with the values that it starts with", { timeout: 300_000 }, async () => {
    const daemon = await startBusy();
    const { body: document } = await daemon.call("GET", "/openapi.json");
    const presses = PRESSES.filter(isPress);
    const operations = calls(document).map(({ operation }) => operation.operationId);
    expect(presses.map(([operation]) => operation).toSorted()).toEqual(operations.toSorted());
    const forms = new Forms(daemon.url, document);
    await forms.look();
    const answers: Press[] = [];
    for (const one of PRESSES) {
      if (isPress(one)) answers.push([one[0], await forms.execute(one[0])]);
      else await one.until(daemon);
    }
    expect(answers).toEqual(presses);
  });
});
