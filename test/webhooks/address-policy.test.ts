import { expect, test } from "vitest";
import {
  checkAddress,
  checkWebhookUrl,
  InvalidAllowedHostsError,
  MAX_WEBHOOK_URL_LENGTH,
  parseAllowedHosts,
} from "../../src/webhooks/address-policy.ts";

const external = parseAllowedHosts(["external"]);

/** Every way to write loopback that the URL parser understands. */
const LOOPBACK_URLS = [
  "http://127.0.0.1/",
  "http://127.0.0.1:9000/hook",
  "https://127.0.0.1/",
  "http://127.0.0.1./",
  "http://127.1/",
  "http://127.0.1/",
  "http://127.255.255.254/",
  "http://2130706433/",
  "http://2130706433./",
  "http://0x7f000001/",
  "http://0X7F000001/",
  "http://0x7f.1/",
  "http://0x7f.0x0.0x0.0x1/",
  "http://0177.0.0.1/",
  "http://0177.0.0.01/",
  "http://017700000001/",
  "http://00000177.1/",
  "http://①②⑦.⓪.⓪.①/",
  "http://127。0。0。1/",
  "http://127.0.0.1/",
  "http://%31%32%37.0.0.1/",
  "http://127.0.0.%31/",
  "http:127.0.0.1/",
  "http:\\\\127.0.0.1\\",
  "http:////127.0.0.1/",
  "ht\ntp://127.0.0.1/",
  " http://127.0.0.1/ ",
  "HTTP://127.0.0.1/",
  "http://[::1]/",
  "http://[0:0:0:0:0:0:0:1]/",
  "http://[0000:0000:0000:0000:0000:0000:0000:0001]/",
  "http://[::0.0.0.1]/",
  "http://[::ffff:127.0.0.1]/",
  "http://[::FFFF:7F00:1]/",
  "http://[0:0:0:0:0:ffff:127.0.0.1]/",
  "http://localhost/",
  "http://localhost./",
  "http://LOCALHOST:8080/",
  "http://ⓛocalhost/",
  "http://local%68ost/",
  "http://hooks.localhost/",
  "http://hooks.localhost./",
  "http://127.0.0.1#@hooks.example.org/",
  "http://127.0.0.1\\@hooks.example.org/",
];

/** Neither public nor loopback. */
const OTHER_REFUSED_URLS = [
  "http://0/",
  "http://0x/",
  "http://0.0.0.0/",
  "http://0.1.2.3/",
  "http://10.0.0.1/",
  "http://0xa.1/",
  "http://167772161/",
  "http://172.16.0.1/",
  "http://172.31.255.255/",
  "http://192.168.1.1/",
  "http://0300.0250.1.1/",
  "http://169.254.169.254/latest/meta-data/",
  "http://2852039166/",
  "http://0xa9fea9fe/",
  "http://169.254.1/",
  "http://100.64.0.1/",
  "http://100.100.100.200/",
  "http://100.127.255.255/",
  "http://168.63.129.16/",
  "http://192.0.0.1/",
  "http://192.0.2.1/",
  "http://192.88.99.1/",
  "http://198.18.0.1/",
  "http://198.51.100.7/",
  "http://203.0.113.9/",
  "http://224.0.0.1/",
  "http://239.255.255.250/",
  "http://240.0.0.1/",
  "http://255.255.255.255/",
  "http://4294967295/",
  "http://[::]/",
  "http://[::ffff:10.0.0.1]/",
  "http://[::ffff:169.254.169.254]/",
  "http://[::ffff:8.8.8.8]/",
  "http://[::8.8.8.8]/",
  "http://[64:ff9b::7f00:1]/",
  "http://[64:ff9b::808:808]/",
  "http://[64:ff9b:1::a00:1]/",
  "http://[100::1]/",
  "http://[2001::1]/",
  "http://[2001:db8::1]/",
  "http://[2002:7f00:1::]/",
  "http://[3fff::1]/",
  "http://[fc00::1]/",
  "http://[fd12:3456:789a::1]/",
  "http://[fd00:ec2::254]/",
  "http://[fe80::1]/",
  "http://[fec0::1]/",
  "http://[ff02::1]/",
];

const MALFORMED_URLS = [
  "",
  "hooks.example.org",
  "//hooks.example.org/",
  "/hook",
  "http://",
  "http://1.2.3.4.5/",
  "http://256.1.1.1/",
  "http://[::1%25eth0]/",
  "http://a b/",
  "http://a..b/",
  "http://localhost../",
  "http://.example.org/",
  "http://exa$mple.org/",
  `http://${"a".repeat(64)}.org/`,
  "http://hooks.example.org:0/",
  "http://hooks.example.org:65536/",
  "ftp://hooks.example.org/",
  "file:///etc/passwd",
  "javascript:alert(1)",
  "unix:///run/docker.sock",
  "ws://hooks.example.org/",
  "http://user@hooks.example.org/",
  "http://user:password@hooks.example.org/",
  "http://:password@hooks.example.org/",
  "http://8.8.8.8@127.0.0.1/",
];

const PUBLIC_URLS = [
  "http://hooks.example.org/",
  "https://hooks.example.org./a?b=c",
  "https://hooks.example.org:8443/",
  "http://bücher.example/",
  "http://my_service:9000/",
  "http://8.8.8.8/",
  "http://134744072/",
  "http://172.32.0.1/",
  "http://100.128.0.1/",
  "http://[2606:4700:4700::1111]/",
  "http://[2001:4860:4860::8888]:8080/",
];

test.each([...LOOPBACK_URLS, ...OTHER_REFUSED_URLS, ...MALFORMED_URLS])(
  "%j is refused where only external addresses are allowed",
  (url) => {
    expect(checkWebhookUrl(url, external)).toEqual(expect.any(String));
  },
);

test.each(PUBLIC_URLS)("%j is accepted where external addresses are allowed", (url) => {
  expect(checkWebhookUrl(url, external)).toBeNull();
});

test.each(LOOPBACK_URLS)("%j is accepted where loopback is allowed", (url) => {
  expect(checkWebhookUrl(url, parseAllowedHosts(["loopback"]))).toBeNull();
});

test.each([...OTHER_REFUSED_URLS, ...MALFORMED_URLS])(
  "%j is refused even where external and loopback are allowed",
  (url) => {
    expect(checkWebhookUrl(url, parseAllowedHosts(["external", "loopback"]))).toEqual(expect.any(String));
  },
);

test.each([
  "http://10.0.0.1/",
  "http://172.16.9.9/",
  "http://192.168.0.1/",
  "http://[fd12::1]/",
  "http://[::ffff:10.1.2.3]/",
])("%j is accepted where private addresses are allowed", (url) => {
  expect(checkWebhookUrl(url, parseAllowedHosts(["private"]))).toBeNull();
});

test.each([
  "http://127.0.0.1/",
  "http://8.8.8.8/",
  "http://169.254.169.254/",
  "http://[fd00:ec2::254]/",
  "http://100.64.0.1/",
])("%j is no private address", (url) => {
  expect(checkWebhookUrl(url, parseAllowedHosts(["private"]))).toEqual(expect.any(String));
});

test("a refusal says what the address is", () => {
  expect(checkWebhookUrl("http://0xa9fea9fe/", external)).toBe(
    "169.254.169.254 is link-local, which webhooks.allowed_hosts does not allow",
  );
  expect(checkWebhookUrl("http://localhost/", external)).toBe(
    "localhost is loopback, which webhooks.allowed_hosts does not allow",
  );
});

test("a URL may have as many characters as the limit and not one more", () => {
  const start = "http://hooks.example.org/";
  expect(checkWebhookUrl(start.padEnd(MAX_WEBHOOK_URL_LENGTH, "a"), external)).toBeNull();
  expect(checkWebhookUrl(start.padEnd(MAX_WEBHOOK_URL_LENGTH + 1, "a"), external)).toMatch(/longer than 2048/);
});

test("an exact name allows that name on any port, and nothing else", () => {
  const allowed = parseAllowedHosts(["Hooks.Example.org"]);
  expect(checkWebhookUrl("http://hooks.example.org/", allowed)).toBeNull();
  expect(checkWebhookUrl("https://HOOKS.example.org.:8443/", allowed)).toBeNull();
  expect(checkWebhookUrl("http://a.hooks.example.org/", allowed)).toMatch(/not in webhooks.allowed_hosts/);
  expect(checkWebhookUrl("http://example.org/", allowed)).toMatch(/not in webhooks.allowed_hosts/);
  expect(checkWebhookUrl("http://8.8.8.8/", allowed)).toMatch(/does not allow/);
});

test("a suffix allows every name below it, and neither itself nor a name that only ends alike", () => {
  const allowed = parseAllowedHosts(["*.example.org"]);
  expect(checkWebhookUrl("http://a.example.org/", allowed)).toBeNull();
  expect(checkWebhookUrl("http://a.b.example.org/", allowed)).toBeNull();
  expect(checkWebhookUrl("http://example.org/", allowed)).toEqual(expect.any(String));
  expect(checkWebhookUrl("http://evilexample.org/", allowed)).toEqual(expect.any(String));
  expect(checkWebhookUrl("http://a.example.org.evil.net/", allowed)).toEqual(expect.any(String));
});

test("host:port allows that port only, for names and for both kinds of address", () => {
  const allowed = parseAllowedHosts(["hooks.example.org:8443", "10.0.0.5:9000", "[fd12::1]:9000", "localhost:9001"]);
  expect(checkWebhookUrl("https://hooks.example.org:8443/", allowed)).toBeNull();
  expect(checkWebhookUrl("https://hooks.example.org/", allowed)).toEqual(expect.any(String));
  expect(checkWebhookUrl("http://10.0.0.5:9000/", allowed)).toBeNull();
  expect(checkWebhookUrl("http://10.0.0.5/", allowed)).toEqual(expect.any(String));
  expect(checkWebhookUrl("http://[fd12::1]:9000/", allowed)).toBeNull();
  expect(checkWebhookUrl("http://[fd12::1]:9001/", allowed)).toEqual(expect.any(String));
  expect(checkWebhookUrl("http://localhost:9001/", allowed)).toBeNull();
  expect(checkWebhookUrl("http://localhost:9000/", allowed)).toEqual(expect.any(String));
});

test("the default port of the scheme is the port of a URL without one", () => {
  const allowed = parseAllowedHosts(["hooks.example.org:443"]);
  expect(checkWebhookUrl("https://hooks.example.org/", allowed)).toBeNull();
  expect(checkWebhookUrl("http://hooks.example.org/", allowed)).toEqual(expect.any(String));
});

test("a CIDR block or an address allows exactly what is in it, whatever its kind", () => {
  const allowed = parseAllowedHosts(["100.64.0.0/10", "fd12::/32", "192.168.7.7", "::1"]);
  for (const url of ["http://100.99.1.1/", "http://[fd12:0:1::]/", "http://192.168.7.7/", "http://[::1]/"]) {
    expect(checkWebhookUrl(url, allowed), url).toBeNull();
  }
  for (const url of ["http://100.128.0.1/", "http://[fd13::1]/", "http://192.168.7.8/", "http://127.0.0.1/"]) {
    expect(checkWebhookUrl(url, allowed), url).toEqual(expect.any(String));
  }
  // Where it leads is judged when the webhook leaves.
  expect(checkWebhookUrl("http://some.name/", allowed)).toBeNull();
});

test("with no entries nothing is allowed", () => {
  const nothing = parseAllowedHosts([]);
  for (const url of ["http://hooks.example.org/", "http://8.8.8.8/", "http://127.0.0.1/"]) {
    expect(checkWebhookUrl(url, nothing), url).toEqual(expect.any(String));
  }
});

test("a name that is allowed by itself may lead to a private address, but not to link-local or metadata ones", () => {
  const allowed = parseAllowedHosts(["hooks.internal"]);
  for (const address of ["10.0.0.1", "127.0.0.1", "::1", "8.8.8.8", "100.64.0.1", "::ffff:10.0.0.1"]) {
    expect(checkAddress(address, "hooks.internal", 80, allowed), address).toBeNull();
    expect(checkAddress(address, "other.internal", 80, allowed), address).toEqual(expect.any(String));
  }
  for (const address of [
    "169.254.169.254",
    "::ffff:169.254.169.254",
    "fe80::1%eth0",
    "fd00:ec2::254",
    "0.0.0.0",
    "::",
    "224.0.0.1",
  ]) {
    expect(checkAddress(address, "hooks.internal", 80, allowed), address).toEqual(expect.any(String));
  }
  expect(checkAddress("169.254.169.254", "hooks.internal", 80, parseAllowedHosts(["169.254.169.254"]))).toBeNull();
});

test("what a resolver must never answer is refused, not passed", () => {
  for (const answer of ["", "not an address", "127.1", "2130706433"]) {
    expect(checkAddress(answer, "hooks.example.org", 80, parseAllowedHosts(["external", "loopback"])), answer).toEqual(
      expect.any(String),
    );
  }
});

test("all entries that mean nothing are reported at once, each with its place", () => {
  const entries = [
    "external",
    "",
    "external:80",
    "10.0.0.0/33",
    "10.0.0/8",
    "hooks.example.org:0",
    "hooks.example.org:70000",
    "0x7f.1",
    "*",
    "a.*.example.org",
    "http://hooks.example.org/",
    "fe80::1%eth0",
    "[::1",
    "user@hooks.example.org",
    "10.0.0.0/8/8",
    "hooks.example.org",
  ];
  let problems: InvalidAllowedHostsError["problems"] = [];
  try {
    parseAllowedHosts(entries);
  } catch (error) {
    expect(error).toBeInstanceOf(InvalidAllowedHostsError);
    problems = (error as InvalidAllowedHostsError).problems;
  }
  expect(problems.map(({ index }) => index)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]);
  expect(problems.find(({ index }) => index === 7)?.message).toBe('"0x7f.1" is a number in disguise: write 127.0.0.1');
});

test("the daemon's own port is refused at every address of this machine, in whatever spelling, and no other is", () => {
  const allowed = parseAllowedHosts(["loopback", "external", "hooks.example.org"], 8_086);
  for (const host of ["127.0.0.1", "127.9.9.9", "[::1]", "0x7f.1", "[::ffff:127.0.0.1]"]) {
    expect(checkWebhookUrl(`http://${host}:8086/`, allowed)).toMatch("own port");
    expect(checkWebhookUrl(`http://${host}:8087/`, allowed)).not.toBe("it is the daemon's own port");
  }
  expect(checkAddress("127.0.0.1", "hooks.example.org", 8_086, allowed)).toMatch("own port");
  expect(checkWebhookUrl("http://93.184.216.34:8086/", allowed)).toBeNull();
});
