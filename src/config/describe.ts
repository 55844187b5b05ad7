import type { Role } from "./api-keys.ts";
import type { Config } from "./config.ts";

/** The settings without their secrets, for the log: who has a key, but no hash of one. */
export type DescribedConfig = Omit<Config, "auth" | "webhooks"> & {
  readonly auth: Omit<Config["auth"], "keys"> & {
    readonly keys: readonly { readonly principal: string; readonly role: Role }[];
  };
  readonly webhooks: Omit<Config["webhooks"], "secret"> & { readonly secret: "set" | null };
};

export function describeConfig(config: Config): DescribedConfig {
  const { services, auth, webhooks, allocator } = config;
  return {
    ...config,
    services: {
      ...services,
      deepagentsUrl: withoutCredentials(services.deepagentsUrl),
      graphServiceUrl: withoutCredentials(services.graphServiceUrl),
    },
    allocator: { ...allocator, foreignUseWebhookUrl: withoutCredentials(allocator.foreignUseWebhookUrl) },
    auth: { ...auth, keys: auth.keys.map(({ principal, role }) => ({ principal, role })) },
    webhooks: { ...webhooks, secret: webhooks.secret === null ? null : "set" },
  };
}

/** An address may carry a password before its host, and a token in its path or behind the `?`. */
function withoutCredentials(address: string | null): string | null {
  return address === null ? null : new URL(address).origin;
}
