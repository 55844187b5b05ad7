/** What the tests of podman and of Docker do alike: submit to the executor `container`, and look what is left. */
import { expect } from "vitest";
import { type Site, until } from "./site.ts";

const WAIT_MS = 60_000;
export const STUBBORN = "trap '' TERM; echo up; while :; do /bin/busybox sleep 0.1; done";

export class ContainerSteps {
  readonly #site: () => Site;
  readonly #image: string;
  readonly #containers: () => string;

  /** @param containers the names of those that there are, one a line. */
  constructor(site: () => Site, image: string, containers: () => string) {
    this.#site = site;
    this.#image = image;
    this.#containers = containers;
  }

  submit(script: string, spec: object = {}, gpus = 1): string {
    const command = ["/bin/busybox", "sh", "-c", script];
    return this.#site().submit(command, { executor: "container", image: this.#image, ...spec }, gpus);
  }

  /** @returns its run, once its program has said so. */
  async isUp(id: string): Promise<string> {
    const site = this.#site();
    const run = await site.phase(id, "running");
    await until("its container is up", () => (site.read(run.id, "logs/stdout.log") ?? "").includes("up"), WAIT_MS);
    return run.id;
  }

  /** Nothing of it is left, and its GPU is free. */
  async isGone(id: string): Promise<void> {
    const site = this.#site();
    await site.isOver(id);
    await until("the GPU comes back", () => site.leases.freeGpus() === 2);
    expect(site.marked()).toEqual([]);
    expect(this.#containers()).toBe("");
  }
}
