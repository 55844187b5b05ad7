/**
 * Whom to call, whom to trust and who we are: of a kubeconfig, or of the service account of the pod that we run in.
 *
 * Tokens in files are read again at each call, since they are changed while we run. Programs that a file names for its tokens
 * (`exec`) are run (exec-plugin.ts); those of `auth-provider`, which Kubernetes itself has given up, are refused in words.
 */
import { existsSync, readFileSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { parse } from "yaml";
import { urlHost } from "../../platform/url-host.ts";
import { pluginToken } from "./exec-plugin.ts";

const BEARER = "Bearer ";
const ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount";

export interface Access {
  readonly server: string;
  readonly ca: string | null;
  readonly cert: string | null;
  readonly key: string | null;
  readonly verify: boolean;
  /** As an `Authorization` header has it; asked for at each call. */
  readonly authorization: () => string | null | Promise<string>;
  /** A server has not taken this one. @returns whether another can be had. */
  readonly refused: (authorization: string) => boolean;
}

interface Named<T> {
  readonly name: string;
  readonly cluster?: T;
  readonly user?: T;
  readonly context?: T;
}

type Part = Readonly<Record<string, unknown>>;

/** @throws Error in words for whoever wrote the file. */
export function accessOf(
  file: string | null,
  context: string | null,
  allowInsecure: boolean,
  env: NodeJS.ProcessEnv,
): Access {
  const path = file ?? env.KUBECONFIG?.split(":").find((one) => existsSync(one)) ?? join(homedir(), ".kube/config");
  if (file === null && !existsSync(path)) return accountAccess(env);
  const config = parse(readFileSync(path, "utf8")) as Readonly<Record<string, unknown>>;
  const named = (list: string, name: string, part: "cluster" | "user" | "context"): Part => {
    const found = ((config[list] ?? []) as readonly Named<Part>[]).find((one) => one.name === name);
    if (found === undefined) throw new Error(`${path}: ${list} has no ${JSON.stringify(name)}`);
    return found[part] ?? {};
  };
  const chosen = named("contexts", context ?? String(config["current-context"] ?? ""), "context");
  const cluster = named("clusters", String(chosen.cluster ?? ""), "cluster");
  const user = chosen.user === undefined ? {} : named("users", String(chosen.user), "user");
  if ("auth-provider" in user) {
    throw new Error(`${path}: user ${chosen.user} needs an auth-provider, and none is run; use exec or a token`);
  }
  const verify = cluster["insecure-skip-tls-verify"] !== true;
  // A token that is shown to anybody is anybody's.
  if (!verify && !allowInsecure) {
    throw new Error(
      `${path}: the cluster ${chosen.cluster} skips the verification of TLS; --allow-insecure takes that`,
    );
  }
  const data = (of: Part, name: string): string | null => {
    const inline = of[`${name}-data`];
    if (typeof inline === "string") return Buffer.from(inline, "base64").toString("utf8");
    const at = of[name];
    return typeof at === "string" ? readFileSync(resolve(dirname(path), at), "utf8") : null;
  };
  return {
    server: String(cluster.server ?? "").replace(/\/+$/, ""),
    ca: data(cluster, "certificate-authority"),
    cert: data(user, "client-certificate"),
    key: data(user, "client-key"),
    verify,
    ...authorizationOf(user, dirname(path), env),
  };
}

/** Of the second seed's environment. */
export function givenAccess({ server, token, ca }: { server: string; token: string; ca: string | null }): Access {
  const given = { server, ca, cert: null, key: null, verify: true };
  return { ...given, authorization: () => bearer(token), refused: () => false };
}

type Authorization = Pick<Access, "authorization" | "refused">;

function authorizationOf(user: Part, folder: string, env: NodeJS.ProcessEnv): Authorization {
  const { exec } = user;
  if (typeof exec !== "object" || exec === null) {
    return { authorization: givenAuthorization(user, folder), refused: () => false };
  }
  const { token, forget } = pluginToken(exec, env);
  return {
    authorization: async () => bearer(await token()),
    refused: (authorization) => {
      forget(authorization.slice(BEARER.length));
      return true;
    },
  };
}

function givenAuthorization({ token, tokenFile, username, password }: Part, folder: string): Access["authorization"] {
  if (typeof tokenFile === "string") return () => bearer(readFileSync(resolve(folder, tokenFile), "utf8"));
  if (typeof token === "string") return () => bearer(token);
  if (typeof username !== "string") return () => null;
  const basic = Buffer.from(`${username}:${password ?? ""}`).toString("base64");
  return () => `Basic ${basic}`;
}

/** Of the pod that this runs in. */
function accountAccess({
  KUBERNETES_SERVICE_HOST: host,
  KUBERNETES_SERVICE_PORT: port = "443",
}: NodeJS.ProcessEnv): Access {
  if (host === undefined) {
    throw new Error(
      "no cluster: there is no ~/.kube/config, $KUBECONFIG names none, and this is no pod; see --kubeconfig",
    );
  }
  return {
    server: `https://${urlHost(host)}:${port}`,
    ca: readFileSync(`${ACCOUNT}/ca.crt`, "utf8"),
    cert: null,
    key: null,
    verify: true,
    authorization: () => bearer(readFileSync(`${ACCOUNT}/token`, "utf8")),
    refused: () => false,
  };
}

function bearer(token: string): string {
  return `${BEARER}${token.trim()}`;
}
