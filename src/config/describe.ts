import type { Role } from "../core/model/roles.ts";
import type { Config } from "./config.ts";

/** The settings without their secrets, for the log: who has a key, but no hash of one. */
export type DescribedConfig = Omit<Config, "auth" | "webhooks"> & {
  readonly auth: Omit<Config["auth"], "keys"> & {
    readonly keys: readonly { readonly principal: string; readonly role: Role }[];
  };
  readonly webhooks: Omit<Config["webhooks"], "secrets" | "secretsByPrincipal"> & {
    readonly secret: "set" | null;
    /** Who has some of its own. */
    readonly secretsOf: readonly string[];
  };
};

export function describeConfig(config: Config): DescribedConfig {
  const { services, auth, allocator } = config;
  const { secrets, secretsByPrincipal, ...webhooks } = config.webhooks;
  return {
    ...config,
    services: {
      ...services,
      deepagentsUrl: withoutCredentials(services.deepagentsUrl),
      graphServiceUrl: withoutCredentials(services.graphServiceUrl),
    },
    cluster: { ...config.cluster, redisUrl: config.cluster.redisUrl?.replace(/\/\/.*@/, "//") ?? null },
    allocator: { ...allocator, foreignUseWebhookUrl: withoutCredentials(allocator.foreignUseWebhookUrl) },
    auth: { ...auth, keys: auth.keys.map(({ principal, role }) => ({ principal, role })) },
    webhooks: {
      ...webhooks,
      secret: secrets.length === 0 ? null : "set",
      secretsOf: Object.keys(secretsByPrincipal),
    },
  };
}

/** An address may carry a password before its host, and a token in its path or behind the `?`. */
function withoutCredentials(address: string | null): string | null {
  return address === null ? null : new URL(address).origin;
}
