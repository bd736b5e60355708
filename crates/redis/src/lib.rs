//! Redis processes, and the Upstash REST API in front of them.
