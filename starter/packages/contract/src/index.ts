/** What the page and the API agree on: the nouns, the limits, and the checks of what people type. */

export * from "./limits";
export * from "./nouns";
export * from "./checks";
