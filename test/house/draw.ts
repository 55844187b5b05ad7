/** `npm run house`: draws docs/architecture.svg and writes the table of rooms into docs/architecture.md. */
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { picture, withRooms } from "./picture.ts";

const docs = fileURLToPath(new URL("../../docs/", import.meta.url));
writeFileSync(`${docs}architecture.svg`, picture());
writeFileSync(`${docs}architecture.md`, withRooms(readFileSync(`${docs}architecture.md`, "utf8")));
