/**
 * A program that a kubeconfig names for its tokens, as clouds have it (client.authentication.k8s.io). It runs in a clean
 * environment: what it is given is what the file says, and what any program needs to find itself. Its token is kept until it
 * expires, or a server does not take it.
 */
import { execFile } from "node:child_process";

const TIMEOUT_MS = 30_000;
const MAX_BYTES = 2 ** 20;
/** A token that expires while a call is under way is of no use. */
const SPARE_MS = 30_000;
const GIVEN = ["PATH", "HOME", "USER", "TMPDIR", "HTTPS_PROXY", "NO_PROXY"] as const;

interface Plugin {
  readonly apiVersion?: string;
  readonly command?: string;
  readonly args?: readonly string[];
  readonly env?: readonly { readonly name: string; readonly value: string }[];
}

interface Credential {
  readonly status?: {
    readonly token?: string;
    readonly expirationTimestamp?: string;
    readonly clientCertificateData?: string;
  };
}

export interface PluginToken {
  /** Asked for at each call. */
  readonly token: () => Promise<string>;
  /** A server does not take it: unless another one has come since, the next is asked for. */
  readonly forget: (token: string) => void;
}

export function pluginToken(plugin: Plugin, env: NodeJS.ProcessEnv): PluginToken {
  let known: { readonly token: string; readonly until: number } | null = null;
  let asking: Promise<string> | null = null;
  const token = async () => {
    if (known !== null && Date.now() < known.until - SPARE_MS) return known.token;
    asking ??= ask(plugin, env)
      .then(({ token, until }) => {
        known = { token, until };
        return token;
      })
      .finally(() => {
        asking = null;
      });
    return asking;
  };
  const forget = (refused: string) => {
    if (known?.token === refused) known = null;
  };
  return { token, forget };
}

async function ask({ apiVersion, command = "", args = [], env: more = [] }: Plugin, env: NodeJS.ProcessEnv) {
  const info = { apiVersion, kind: "ExecCredential", spec: { interactive: false } };
  const given = GIVEN.flatMap((name) => (env[name] === undefined ? [] : [[name, env[name]] as const]));
  const own = more.map(({ name, value }) => [name, value] as const);
  const said = await new Promise<string>((resolve, reject) => {
    const options = {
      env: { ...Object.fromEntries([...given, ...own]), KUBERNETES_EXEC_INFO: JSON.stringify(info) },
      timeout: TIMEOUT_MS,
      maxBuffer: MAX_BYTES,
    };
    execFile(command, [...args], options, (error, stdout, stderr) => {
      if (error === null) return resolve(stdout);
      reject(new Error(`${command}: ${(stderr.trim() || error.message).slice(0, 500)}`));
    }).stdin?.end();
  });
  const { token, expirationTimestamp, clientCertificateData } = statusIn(command, said);
  if (token === undefined) {
    const what = clientCertificateData === undefined ? "no token" : "a certificate, and only tokens are taken";
    throw new Error(`${command} gave ${what}`);
  }
  const until = expirationTimestamp === undefined ? Number.POSITIVE_INFINITY : Date.parse(expirationTimestamp);
  return { token: token.trim(), until };
}

/** What it said is not shown: it may hold what is secret. */
function statusIn(command: string, said: string): NonNullable<Credential["status"]> {
  try {
    return (JSON.parse(said) as Credential).status ?? {};
  } catch {
    throw new Error(`${command} gave no ExecCredential`);
  }
}
