/** What is wrong with an object that somebody sent, and where. */
export interface Breach {
  /** Of the field, with dots: `spec.resources.cpu`. */
  readonly path: string;
  readonly message: string;
}
