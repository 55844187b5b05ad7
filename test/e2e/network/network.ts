/**
 * Hosts in network name spaces of their own, on a bridge in another: a cable that is pulled swallows what is sent, as in
 * a rack. Each name space lives as long as a process in it, so that nothing is left of a test that was killed.
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { readlinkSync } from "node:fs";
import { pause } from "../../worker/site.ts";

const NETWORK = "10.77.0";

export class Network {
  readonly #hub = new Space();
  readonly #hosts = new Map<string, Space>();

  async start(): Promise<this> {
    await this.#hub.start();
    this.#hub.run("ip", "link", "add", "name", "bridge0", "type", "bridge");
    this.#hub.run("ip", "link", "set", "bridge0", "up");
    return this;
  }

  async plug(name: string, number: number): Promise<void> {
    const host = await new Space().start();
    this.#hosts.set(name, host);
    const ends = ["type", "veth", "peer", "name", "eth0", "netns", String(host.pid)];
    this.#hub.run("ip", "link", "add", "name", name, ...ends);
    this.#hub.run("ip", "link", "set", name, "master", "bridge0", "up");
    host.run("ip", "link", "set", "lo", "up");
    host.run("ip", "address", "add", `${NETWORK}.${number}/24`, "dev", "eth0");
    host.run("ip", "link", "set", "eth0", "up");
  }

  pull(name: string): void {
    this.#hub.run("ip", "link", "set", name, "down");
  }

  put(name: string): void {
    this.#hub.run("ip", "link", "set", name, "up");
  }

  /** An address goes from one host to another, as with a standby that takes over. */
  move(number: number, from: string, to: string): void {
    const address = `${NETWORK}.${number}/24`;
    this.on(from).run("ip", "address", "del", address, "dev", "eth0");
    this.on(to).run("ip", "address", "add", address, "dev", "eth0");
    for (const host of this.#hosts.values()) host.run("ip", "neigh", "flush", "all");
  }

  on(name: string): Space {
    return this.#hosts.get(name) as Space;
  }

  addressOf(number: number): string {
    return `${NETWORK}.${number}`;
  }

  stop(): void {
    for (const space of [...this.#hosts.values(), this.#hub]) space.end();
  }
}

class Space {
  #keeper: ChildProcess | null = null;

  async start(): Promise<this> {
    // It goes with this process, whatever becomes of that.
    const command = ["--pdeathsig=KILL", "--", "unshare", "--net", "sleep", "infinity"];
    this.#keeper = spawn("setpriv", command, { stdio: "ignore" });
    // Until `unshare` has become it, its name space is ours.
    for (let i = 0; i < 200 && spaceOf(this.pid) === spaceOf("self"); i++) await pause(10);
    return this;
  }

  get pid(): number {
    return this.#keeper?.pid ?? 0;
  }

  /** What stands before a command that is to run here. */
  get under(): string[] {
    return ["nsenter", `--net=/proc/${this.pid}/ns/net`];
  }

  /** @throws Error with what it wrote, when it fails. */
  run(...command: readonly string[]): string {
    const [program = "", ...args] = [...this.under, ...command];
    const { status, stdout, stderr } = spawnSync(program, args, { encoding: "utf8", timeout: 20_000 });
    if (status !== 0) throw new Error(`${command.join(" ")}: ${stderr}`);
    return stdout.trim();
  }

  end(): void {
    this.#keeper?.kill("SIGKILL");
  }
}

function spaceOf(process: number | "self"): string {
  try {
    return readlinkSync(`/proc/${process}/ns/net`);
  } catch {
    return "";
  }
}

/** A container, or whoever is not root, may not make them. */
export function hasNetworks(): boolean {
  const script = "ip link add name bridge0 type bridge && ip link add name a type veth peer name b";
  return spawnSync("unshare", ["--net", "sh", "-c", script], { stdio: "ignore", timeout: 10_000 }).status === 0;
}
export const NEEDS_NETWORKS =
  "needs root, iproute2, redis-server and openssl, and a host that lets network name spaces be made";
