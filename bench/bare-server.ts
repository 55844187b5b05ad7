/** The limit that the daemon is measured against: node:http alone, parsing the same bodies and answering the same bytes. */
import { createServer } from "node:http";

const answers = JSON.parse(process.argv[2] ?? "{}") as { [path: string]: string };
const bodies = new Map(Object.entries(answers).map(([path, body]) => [path, Buffer.from(body)]));

const server = createServer((request, response) => {
  const chunks: Buffer[] = [];
  request.on("data", (chunk: Buffer) => chunks.push(chunk));
  request.on("end", () => {
    JSON.parse(Buffer.concat(chunks).toString("utf8"));
    const body = bodies.get(request.url ?? "") ?? Buffer.from("{}");
    response.writeHead(200, { "content-type": "application/json", "content-length": body.length });
    response.end(body);
  });
});
server.listen(0, "127.0.0.1", () => {
  const address = server.address();
  if (address !== null && typeof address !== "string")
    console.log(`"url":"http://127.0.0.1:${address.port}" "msg":"serving"`);
});
