/**
 * Who is at the other end of a unix socket, as the kernel says (SO_PEERCRED, unix(7)); where perl is missing, as the caller
 * proves (proofs.ts).
 *
 *  1. Node has no call for it. A perl process, which is given the connection as its descriptor 3, asks the kernel and the
 *     system's books of users and groups, and reads nothing of what the client sends. As one of 0 to 2 it would be made a
 *     blocking one by libuv, for the daemon too: it is one open file for both.
 *  2. It is asked once per connection, before a byte of it is read: who is at its end does not change.
 *  3. It fails closed: without an answer in time the connection is ended, and nobody is taken for anybody. So it is for
 *     users of whom the kernel knows no number here, who all have the same one in a namespace of users.
 */
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import type { Socket } from "node:net";
import { PRINCIPAL_NAME } from "../../core/model/ids.ts";
import type { Caller } from "./auth.ts";
import { Proofs, ProofsError } from "./proofs.ts";
import { userBy } from "./users.ts";

const ASK_MS = 5_000;
/** Asked at once; those that come meanwhile wait. Of more than {@link MAX_WAITING} the one that waits longest is ended. */
const AT_ONCE = 8;
const MAX_WAITING = 1_024;

/** Prints its user's number, whether that is in the group, and its name, on a line. */
const PROGRAM = `
  open(my $socket, "+<&=", 3) or exit 1;
  my $credentials = getsockopt($socket, 1, 17) or exit 1;
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

export class PeersError extends Error {
  override readonly name = "PeersError";
}

/** `unproven`: it is still to prove who it is; `not-now`: it has tried, and cannot be looked up for the time being. */
type Unproven = "unproven" | "not-now";

export class Peers {
  readonly #adminGroup: string | null;
  readonly #warn: (facts: object, message: string) => void;
  readonly #nobody: number | null;
  readonly #known = new WeakMap<Socket, Caller | Unproven>();
  /** Told whether it is their turn; otherwise they are ended. */
  readonly #waiting: ((isTurn: boolean) => void)[] = [];
  #asking = 0;
  #hasWarned = false;
  /** `null`: the kernel is asked. */
  #proofs: Proofs | null = null;

  /**
   * @param adminGroup whose members are admins, as root is; `null`: root alone.
   * @param nobody the number that several users have here; `null`: each has its own.
   */
  constructor(
    adminGroup: string | null,
    warn: (facts: object, message: string) => void,
    nobody: number | null = sharedUid(),
  ) {
    this.#adminGroup = adminGroup;
    this.#warn = warn;
    this.#nobody = nobody;
  }

  /**
   * Tries whether the kernel can be asked, about a connection of the daemon's own. Where it cannot, callers prove who they are.
   *
   * @throws PeersError when it cannot be known who calls.
   */
  async check(socketPath: string): Promise<void> {
    if (await this.#canAsk()) return;
    try {
      this.#proofs = new Proofs(socketPath);
    } catch (error) {
      throw new PeersError(
        "server.socket needs perl, which asks the kernel who calls, and it does not run or does not answer: install it " +
          `(Debian: perl-base). Callers cannot prove who they are either: ${(error as Error).message}`,
        { cause: error },
      );
    }
    this.#warn(
      { socket: socketPath },
      "perl does not answer: callers prove who they are by directories that they make",
    );
  }

  /** `null`: it did not come by the socket. */
  of(socket: Socket): Caller | Unproven | null {
    return this.#known.get(socket) ?? null;
  }

  /** @returns whether it is known now who is there, or is to be proved; otherwise the connection is to be ended. */
  async identify(socket: Socket): Promise<boolean> {
    if (this.#proofs !== null) {
      this.#known.set(socket, "unproven");
      return true;
    }
    return this.#inTurn(async () => {
      const peer = peerIn((await answerOf(socket, this.#adminGroup ?? "")) ?? "");
      if (peer === null || this.#isNobody(peer)) return false;
      this.#known.set(socket, peer);
      return true;
    });
  }

  /** What an unproven connection is told. */
  nonce(): string {
    return this.#proofs?.nonce() ?? "";
  }

  /**
   * Takes the proof for the whole connection, if it is one.
   *
   * @param nonce `null`: a request brings none, and is to be asked.
   */
  async prove(socket: Socket, nonce: string | null): Promise<void> {
    if (!this.isToProve(socket)) return;
    this.#known.set(socket, "unproven");
    if (nonce === null) return;
    try {
      const uid = this.#proofs?.ownerBy(nonce) ?? null;
      if (uid === null) return;
      const hadTurn = await this.#inTurn(async () => {
        const { name, isAdmin } = await userBy(uid, this.#adminGroup);
        const peer = callerOf(uid, isAdmin, name);
        if (this.isToProve(socket) && !this.#isNobody(peer)) this.#known.set(socket, peer);
        return true;
      });
      if (!hadTurn && this.isToProve(socket)) this.#known.set(socket, "not-now");
    } catch (error) {
      // Who proves too often is told so, and fills no log.
      if (!(error instanceof ProofsError)) this.#warn({ err: error }, "a user cannot be looked up");
      if (this.isToProve(socket)) this.#known.set(socket, "not-now");
    }
  }

  isToProve(socket: Socket): boolean {
    return typeof this.of(socket) === "string";
  }

  close(): void {
    this.#proofs?.close();
    this.#proofs = null;
  }

  /** One slow answer, of a host that is just starting, changes nothing for as long as the daemon runs. */
  async #canAsk(): Promise<boolean> {
    for (let tries = 0; tries < 2; tries++) {
      const text = await answerOf("pipe", this.#adminGroup ?? "");
      if (text === null) return false;
      const self = peerIn(text);
      if (self !== null && self.uid === process.geteuid?.()) return true;
    }
    return false;
  }

  async #inTurn(ask: () => Promise<boolean>): Promise<boolean> {
    if (this.#asking >= AT_ONCE) {
      if (this.#waiting.length >= MAX_WAITING) this.#waiting.shift()?.(false);
      const isTurn = await new Promise<boolean>((resolve) => this.#waiting.push(resolve));
      if (!isTurn) return false;
    }
    this.#asking++;
    try {
      return await ask();
    } finally {
      this.#asking--;
      this.#waiting.shift()?.(true);
    }
  }

  #isNobody({ uid }: Caller): boolean {
    if (uid !== this.#nobody) return false;
    if (!this.#hasWarned) {
      this.#warn({ uid }, "users who are not mapped into the daemon's user namespace cannot be told apart: refused");
    }
    this.#hasWarned = true;
    return true;
  }
}

/**
 * What the program prints; "" when it fails; `null`: there is no perl.
 *
 * @param socket `pipe`: a new one between the daemon and the program.
 */
function answerOf(socket: Socket | "pipe", adminGroup: string): Promise<string | null> {
  return new Promise((resolve) => {
    const child = spawn("perl", ["-e", PROGRAM, adminGroup], {
      stdio: ["ignore", "pipe", "ignore", socket],
      timeout: ASK_MS,
      killSignal: "SIGKILL",
      env: { PATH: process.env.PATH ?? "/usr/bin:/bin", LC_ALL: "C.UTF-8" },
    });
    let text = "";
    child.stdout?.setEncoding("utf8").on("data", (chunk: string) => {
      text += chunk;
    });
    child.once("error", (error: NodeJS.ErrnoException) => resolve(error.code === "ENOENT" ? null : ""));
    child.once("close", (code) => resolve(code === 0 ? text : ""));
  });
}

/** `null`: it is no answer of the program's. */
export function peerIn(text: string): Caller | null {
  const [, uidText, isAdmin, name = ""] = /^(\d{1,10}) ([01]) (.*)\n$/u.exec(text) ?? [];
  if (uidText === undefined) return null;
  return callerOf(Number(uidText), isAdmin === "1", name);
}

function callerOf(uid: number, isAdmin: boolean, name: string): Caller {
  const admin = uid === 0 || isAdmin;
  // One whom the books do not know is known by number, and by nothing that a name could be.
  const principal = PRINCIPAL_NAME.test(name) ? name : `uid:${uid}`;
  return { actor: { principal, admin }, keyId: null, role: admin ? "admin" : "allocate", keyed: true, uid };
}

/** The number of all users whom this process' namespace does not have; `null`: it has everybody. */
function sharedUid(): number | null {
  try {
    const overflow = readFileSync("/proc/sys/kernel/overflowuid", "utf8");
    return unmappedUid(readFileSync("/proc/self/uid_map", "utf8"), overflow);
  } catch {
    // A kernel without namespaces of users.
    return null;
  }
}

/** The same by what the kernel's files say (user_namespaces(7)). */
export function unmappedUid(uidMap: string, overflow: string): number | null {
  return /^\s*0\s+0\s+4294967295\s*$/.test(uidMap) ? null : Number(overflow);
}
