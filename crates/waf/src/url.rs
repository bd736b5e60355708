//! Query strings and cookies, split into names and values.
