import json
import os
import time
import unittest

from gpuo import WebhookError, verify_webhook

#: A webhook that the official package has signed; without it, one whose signature was made by that package before.
SIGNED = json.loads(os.environ.get("GPUO_TEST_WEBHOOK") or "null")


@unittest.skipUnless(SIGNED, "GPUO_TEST_WEBHOOK is not set: run by npm test")
class Webhooks(unittest.TestCase):
    def test_what_the_official_package_has_signed_is_accepted(self) -> None:
        self.assertEqual(verify_webhook(SIGNED["body"], SIGNED["headers"], SIGNED["secret"]), json.loads(SIGNED["body"]))
        upper = {name.upper(): value for name, value in SIGNED["headers"].items()}
        upper["WEBHOOK-SIGNATURE"] = "v1a,xx v1,AAAA " + upper["WEBHOOK-SIGNATURE"]
        verify_webhook(SIGNED["body"].encode(), upper, SIGNED["secret"])

    def test_what_was_changed_is_too_old_or_has_another_secret_is_refused(self) -> None:
        body, headers, secret = SIGNED["body"], SIGNED["headers"], SIGNED["secret"]
        for name, call in {
            "changed": lambda: verify_webhook(body + " ", headers, secret),
            "old": lambda: verify_webhook(body, headers, secret, now=time.time() + 301),
            "secret": lambda: verify_webhook(body, headers, "another"),
            "unsigned": lambda: verify_webhook(body, {}, secret),
            "broken": lambda: verify_webhook(body, headers, "whsec_!"),
        }.items():
            with self.subTest(name):
                self.assertRaises(WebhookError, call)
