/**
 * Who is at the other end of a unix socket, as the kernel says (SO_PEERCRED, unix(7)).
 *
 *  1. Node has no call for it. A perl process, which is given the connection as its standard input, asks the kernel and the
 *     system's books of users and groups, and reads nothing of what the client sends.
 *  2. It is asked once per connection, before a byte of it is read: who is at its end does not change.
 *  3. It fails closed: without an answer in time the connection is ended, and nobody is taken for anybody.
 */
import { spawn } from "node:child_process";
import type { Socket } from "node:net";
import type { Caller } from "./auth.ts";

const ASK_MS = 5_000;
/** Asked at once; those that come meanwhile wait, and no more than {@link MAX_WAITING}. */
const AT_ONCE = 8;
const MAX_WAITING = 1_024;
/** As a key's principal may be. */
const NAME = /^(?!\s)[^\p{C}]{1,128}(?<!\s)$/u;

/** Prints its user's number, whether that is in the group, and its name, on a line. */
const PROGRAM = `
  my $credentials = getsockopt(STDIN, 1, 17) or exit 1;
  my ($pid, $uid, $gid) = unpack("iII", $credentials);
  my @user = getpwuid($uid);
  my $name = $user[0] // "";
  my $is_admin = 0;
  if (length $ARGV[0]) {
    my @group = getgrnam($ARGV[0]);
    $is_admin = 1 if @group && ($gid == $group[2] || (@user && $user[3] == $group[2]) || grep { $_ eq $name } split(/ /, $group[3]));
  }
  print "$uid $is_admin $name\\n";
`;

export class Peers {
  readonly #adminGroup: string | null;
  readonly #known = new WeakMap<Socket, Caller>();
  readonly #waiting: (() => void)[] = [];
  #asking = 0;

  /** @param adminGroup whose members are admins, as root is; `null`: root alone. */
  constructor(adminGroup: string | null) {
    this.#adminGroup = adminGroup;
  }

  /** `null`: it did not come by the socket. */
  of(socket: Socket): Caller | null {
    return this.#known.get(socket) ?? null;
  }

  /** @returns whether it is known now who is there; otherwise the connection is to be ended. */
  async identify(socket: Socket): Promise<boolean> {
    if (this.#asking >= AT_ONCE) {
      if (this.#waiting.length >= MAX_WAITING) return false;
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
    this.#asking++;
    try {
      const peer = peerIn(await answerOf(socket, this.#adminGroup ?? ""));
      if (peer !== null) this.#known.set(socket, peer);
      return peer !== null;
    } finally {
      this.#asking--;
      this.#waiting.shift()?.();
    }
  }
}

/** What the program prints; "" when it fails. */
function answerOf(socket: Socket, adminGroup: string): Promise<string> {
  return new Promise((resolve) => {
    const child = spawn("perl", ["-e", PROGRAM, adminGroup], {
      stdio: [socket, "pipe", "ignore"],
      timeout: ASK_MS,
      killSignal: "SIGKILL",
      env: { PATH: process.env.PATH ?? "/usr/bin:/bin", LC_ALL: "C.UTF-8" },
    });
    let text = "";
    child.stdout?.setEncoding("utf8").on("data", (chunk: string) => {
      text += chunk;
    });
    child.once("error", () => resolve(""));
    child.once("close", (code) => resolve(code === 0 ? text : ""));
  });
}

/** `null`: it is no answer of the program's. */
export function peerIn(text: string): Caller | null {
  const [, uidText, isAdmin, name = ""] = /^(\d{1,10}) ([01]) (.*)\n$/u.exec(text) ?? [];
  if (uidText === undefined) return null;
  const uid = Number(uidText);
  const admin = uid === 0 || isAdmin === "1";
  // One whom the books do not know is known by number, and by nothing that a name could be.
  const principal = NAME.test(name) ? name : `uid:${uid}`;
  return { actor: { principal, admin }, keyId: null, role: admin ? "admin" : "allocate", keyed: true, uid };
}
