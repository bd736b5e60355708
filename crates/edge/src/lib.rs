//! The edge: from an accepted connection to a proxied answer.
