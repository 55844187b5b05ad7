import type { Rule } from "../config/rules.ts";
import { parseShape, SHAPES } from "../monitor/simulated/models.ts";
import { checkWebhookUrl, InvalidAllowedHostsError, parseAllowedHosts } from "../webhooks/address-policy.ts";

/** What only the parts themselves can say of the settings that are meant for them. */
export const SETTING_RULES: readonly Rule[] = [
  {
    reads: [["simulation", "host"]],
    check: ({ monitoring, simulation }) =>
      monitoring.source === "simulated" && parseShape(simulation.host) === null ? `expected ${SHAPES}` : null,
  },
  {
    reads: [["webhooks", "allowed_hosts"]],
    check: ({ webhooks }) => {
      try {
        parseAllowedHosts(webhooks.allowedHosts);
        return null;
      } catch (error) {
        if (error instanceof InvalidAllowedHostsError) return error.message;
        throw error;
      }
    },
  },
  {
    reads: [
      ["allocator", "foreign_use_webhook_url"],
      ["webhooks", "allowed_hosts"],
    ],
    check({ allocator: { foreignUseWebhookUrl: url }, webhooks }) {
      try {
        return url === null ? null : checkWebhookUrl(url, parseAllowedHosts(webhooks.allowedHosts));
      } catch (error) {
        // The rule before this one reports it.
        if (error instanceof InvalidAllowedHostsError) return null;
        throw error;
      }
    },
  },
];
