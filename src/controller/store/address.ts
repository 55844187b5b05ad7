/** Where a PostgreSQL is, and how it is spoken to. */
export interface PostgresSettings {
  readonly host: string;
  readonly port: number;
  readonly database: string;
  readonly user: string;
  readonly password: string | null;
  readonly schema: string;
  /** `null`: not encrypted. `ca` is PEM; without it the authorities that Node knows are trusted. */
  readonly tls: { readonly ca: string | null } | null;
}

/** As it may be shown: without the password. */
export function addressOf({ user, host, port, database }: PostgresSettings): string {
  const part = encodeURIComponent;
  return `postgres://${part(user)}@${host.includes(":") ? `[${host}]` : host}:${port}/${part(database)}`;
}
