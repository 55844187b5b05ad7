/**
 * `gpuo top`: GPUs, leases and queue in one screen, as they change.
 *
 *  1. What is shown is the daemon's list, asked for anew at each event, and each 2 s for the figures.
 *  2. What changes something asks first.
 *  3. The terminal is given back as it was, whatever ends the program.
 *  4. Without a terminal it prints the three once.
 */
import { pause } from "../../client/client.ts";
import type { List } from "../../client/types.ts";
import { type CommonOptions, type Context, contextOf } from "../context.ts";
import { wordsOf } from "../exits.ts";
import { type Frame, frame, SORTS, type Target, type View } from "./screen.ts";

const REFRESH_MS = 2_000;
/** Events that come together are shown together. */
const GATHER_MS = 100;
const PATIENCE_MS = 10_000;
const DEFAULT_ROWS = 24;
const NO_TERMINAL_ROWS = 10_000;

/** Another screen, no cursor, and no wrapping of lines that are wider than they look. */
const ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l";
const LEAVE = "\x1b[?7h\x1b[?25h\x1b[?1049l";

const ESCAPE = "\x1b";
/** An arrow is one key of three characters; what is pasted is many keys. */
const KEY = new RegExp(`${ESCAPE}\\[[A-D]|[^]`, "g");

/** What is typed goes to a question until it is answered. */
interface Question {
  readonly words: string;
  /** Whether more than one key is the answer. */
  readonly isText: boolean;
  readonly answered: (text: string) => void;
}

export async function top(options: CommonOptions): Promise<void> {
  const context = await contextOf(options, PATIENCE_MS);
  const { client, terminal } = context;
  const list = await client.list();
  if (terminal.json) return terminal.data(list);
  if (!terminal.isTerminal || process.stdin.isTTY !== true) {
    const view = { list, filter: "", sort: SORTS[0], chosen: -1, note: "", rows: NO_TERMINAL_ROWS };
    for (const line of frame(view, terminal, Date.now(), false).lines) if (line !== "") terminal.line(line);
    return;
  }
  await new Top(context, list).shown();
}

class Top {
  readonly #context: Context;
  readonly #end = new AbortController();
  #list: List;
  #sort = 0;
  #filter = "";
  #chosen = 0;
  /** What came of the last key. */
  #note: string | null = null;
  /** Why the list is not that of now. */
  #trouble: string | null = null;
  #question: Question | null = null;
  #typed = "";
  #frame: Frame = { lines: [], target: null, count: 0 };

  constructor(context: Context, list: List) {
    this.#context = context;
    this.#list = list;
  }

  async shown(): Promise<void> {
    const { signal } = this.#end;
    const resume = () => {
      this.#enter();
      this.#draw();
    };
    const leave = () => this.#end.abort();
    process.once("exit", restore);
    process.stdin.on("data", (keys: Buffer) => this.#press(keys.toString()));
    process.stdout.on("resize", () => this.#draw());
    process.on("SIGCONT", resume);
    for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(name, leave);
    resume();
    const ended = new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
    try {
      await Promise.race([ended, this.#follow(signal), this.#refresh(signal)]);
    } finally {
      leave();
      restore();
      process.off("exit", restore);
      process.stdin.pause();
      process.off("SIGCONT", resume);
    }
  }

  #enter(): void {
    process.stdin.setRawMode(true);
    process.stdin.resume();
    process.stdout.write(ENTER);
  }

  /** Each event, and those that come right behind it. */
  async #follow(signal: AbortSignal): Promise<void> {
    let gathering = false;
    for await (const _event of this.#context.client.events(this.#list.last_event_id, { signal })) {
      if (gathering) continue;
      gathering = true;
      setTimeout(() => {
        gathering = false;
        void this.#look(signal);
      }, GATHER_MS);
    }
  }

  async #refresh(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await pause(REFRESH_MS, signal).catch(() => {});
      await this.#look(signal);
    }
  }

  async #look(signal: AbortSignal): Promise<void> {
    try {
      this.#list = await this.#context.client.list({ signal });
      this.#trouble = null;
    } catch (error) {
      if (signal.aborted) return;
      this.#trouble = `what is shown is old: ${wordsOf(error)[0]}`;
    }
    this.#draw();
  }

  #draw(): void {
    if (this.#end.signal.aborted) return;
    const question = this.#question === null ? null : this.#question.words + this.#typed;
    const view: View = {
      list: this.#list,
      filter: this.#filter,
      sort: SORTS[this.#sort] ?? SORTS[0],
      chosen: this.#chosen,
      note: question ?? this.#note ?? this.#trouble,
      // A terminal that does not know its size says 0.
      rows: process.stdout.rows || DEFAULT_ROWS,
    };
    this.#frame = frame(view, this.#context.terminal, Date.now());
    this.#chosen = Math.max(0, Math.min(this.#chosen, this.#frame.count - 1));
    process.stdout.write(`\x1b[H${this.#frame.lines.map((line) => `${line}\x1b[K`).join("\r\n")}\x1b[J`);
  }

  #press(keys: string): void {
    for (const [key] of keys.matchAll(KEY)) {
      if (key === "\x03") this.#end.abort();
      else if (key === "\x1a") stop();
      else if (this.#question !== null) this.#answer(this.#question, key);
      else this.#command(key);
      // The next key is meant for what this one has chosen.
      this.#draw();
    }
  }

  #answer(question: Question, key: string): void {
    const isOver = !question.isText || key === "\r" || key === ESCAPE;
    if (key === "\x7f") this.#typed = this.#typed.slice(0, -1);
    else if (!isOver && key >= " ") this.#typed += key;
    if (!isOver) return;
    const text = question.isText ? this.#typed : key;
    this.#question = null;
    this.#typed = "";
    if (key === ESCAPE) this.#note = null;
    else question.answered(text);
  }

  #ask(words: string, isText: boolean, answered: (text: string) => void): void {
    this.#question = { words, isText, answered };
  }

  #command(key: string): void {
    this.#note = null;
    const { target } = this.#frame;
    if (key === "q") this.#end.abort();
    else if (key === "\x1b[A" || key === "k") this.#chosen = Math.max(0, this.#chosen - 1);
    else if (key === "\x1b[B" || key === "j") this.#chosen++;
    else if (key === "s") this.#sort = (this.#sort + 1) % SORTS.length;
    else if (key === "/") this.#ask("show only what has: ", true, (text) => (this.#filter = text));
    else if (key === "c" || key === "r" || key === "d") this.#deed(key, target);
  }

  #deed(key: "c" | "r" | "d", target: Target | null): void {
    const { client } = this.#context;
    if (key === "c" && target?.kind === "queued") {
      const { id, service } = target;
      this.#confirm(`cancel ${id} of ${service}?`, () => client.remove(id));
    } else if (key === "r" && target?.kind === "lease") {
      const { id, service_name: service, fencing_token: token } = target.lease;
      this.#confirm(`release ${id} of ${service}?`, () => client.remove(id, token));
    } else if (key === "d" && target?.kind === "gpu") {
      const { uuid, id, cordon } = target.gpu;
      const act = cordon === null ? "cordon" : "uncordon";
      this.#ask(`${act} GPU ${id ?? uuid}, since: `, true, (reason) => {
        if (reason === "") this.#note = "not without a reason";
        else void this.#do(`${act} GPU ${id ?? uuid}`, () => client.govern(act, uuid, { reason }));
      });
    } else {
      this.#note = { c: "choose what waits", r: "choose a lease", d: "choose a GPU" }[key];
    }
  }

  #confirm(words: string, deed: () => Promise<unknown>): void {
    this.#ask(`${words} y/n `, false, (key) => {
      if (key === "y") void this.#do(words.replace(/\?$/, ""), deed);
    });
  }

  async #do(words: string, deed: () => Promise<unknown>): Promise<void> {
    try {
      await deed();
      this.#note = `${words}: done`;
    } catch (error) {
      this.#note = `${words}: ${wordsOf(error)[0]}`;
    }
    await this.#look(this.#end.signal);
  }
}

function restore(): void {
  process.stdin.setRawMode(false);
  process.stdout.write(LEAVE);
}

/** As the shell's Ctrl-Z: SIGCONT brings the screen back. */
function stop(): void {
  restore();
  process.kill(process.pid, "SIGSTOP");
}
