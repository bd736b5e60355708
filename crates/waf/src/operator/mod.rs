//! What a rule does with a value: `@rx`, `@pm`, `@eq` and the others.
