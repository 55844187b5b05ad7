import { windowsSchema } from "../../wire/windows/answers.ts";
import { reading } from "../describing.ts";

export const windows = reading("windows", "GPUs that are kept for some by the calendar", windowsSchema);
